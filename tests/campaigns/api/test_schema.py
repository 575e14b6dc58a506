from __future__ import annotations

import msgspec
import pytest

from campaigns.rendering import NewCampaign
from market.campaign import Campaign, Goal


@pytest.fixture
def document(plane):
    response = plane.anyone.get("/api/v1/openapi.json")
    assert response.status_code == 200
    return response.json()


def references(node):
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere(document):
    found = set(references(document))
    assert "#/components/schemas/Campaign" in found
    for reference in found:
        node = document
        for name in reference.removeprefix("#/").split("/"):
            node = node[name]
        assert node


def test_the_schemas_are_those_of_the_types_themselves(document):
    schemas = document["components"]["schemas"]
    for each in (Campaign, NewCampaign, Goal):
        properties = schemas[each.__name__]["properties"]
        assert set(properties) == {field.encode_name for field in msgspec.structs.fields(each)}
        assert schemas[each.__name__]["additionalProperties"] is False
    assert "msgspec" not in str(schemas)


def test_a_create_and_a_change_show_what_they_read(document):
    create = document["paths"]["/api/v1/campaigns"]["post"]
    change = document["paths"]["/api/v1/campaigns/{campaign_id}"]["patch"]
    content = create["requestBody"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/NewCampaign"}
    assert "application/merge-patch+json" in change["requestBody"]["content"]
    assert {each["name"] for each in create["parameters"]} == {
        "Idempotency-Key", "validate_only", "reason",
    }  # fmt: skip


def test_every_endpoint_of_the_api_needs_a_key_and_shows_problems(document):
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    operations = [
        operation
        for path, methods in document["paths"].items()
        for operation in methods.values()
        if path.startswith("/api/v1")
    ]
    assert len(operations) == 10
    for operation in operations:
        assert operation["security"] == [{"apiKey": []}]
        assert operation["summary"]
        for status in ("401", "422"):
            content = operation["responses"][status]["content"]
            assert list(content) == ["application/problem+json"]


def test_every_mutation_can_be_tried(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            # A query is a POST because it has a body; it changes nothing.
            if method in ("post", "patch") and not path.endswith("/query"):
                assert "validate_only" in {each["name"] for each in operation["parameters"]}
