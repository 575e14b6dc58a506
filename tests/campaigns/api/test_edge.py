from __future__ import annotations

from sqlalchemy import text


def test_the_key_is_in_no_log_and_no_answer_whatever_goes_wrong(plane, caplog, body):
    key = plane.first_key
    secret = key.partition(".")[2]
    at = "/api/v1/campaigns"
    forged = {"Authorization": f"Bearer {key[:-1]}"}
    tag = {"If-Match": '"1"'}
    client = plane.editor
    answers = [
        client.post(at, json=body, headers={"Idempotency-Key": "a"}),
        client.post(at, json=body, headers={"Idempotency-Key": "a"}),
        client.post(at, json={"name": 5}),
        client.post(at, content=b"{", headers={"Content-Type": "application/json"}),
        client.post(at, content=b"{", headers={"Content-Type": "text/plain"}),
        client.get(at), client.get(f"{at}/1"), client.get(f"{at}/2"), client.get(f"{at}?limit=x"),
        client.patch(f"{at}/1", json={"name": "b"}, headers=tag),
        client.patch(f"{at}/1", json={"name": "b"}, headers=tag),
        client.patch(f"{at}/1", json={"name": "b"}),
        client.post(f"{at}/1:pause"), client.post(f"{at}/1:resume"),
        client.get(f"{at}/1/changes"), client.get(f"{at}/1/report"),
        client.get("/api/v1/overview"), client.get("/api/v1/openapi.json"),
        client.get("/"), client.get("/healthz"), client.get("/nothing"), client.delete(at),
        client.get(at, headers=forged), client.get(at, headers={"Authorization": key}),
        client.get("/assets/api_key"), client.get("/assets/..%2fapi_key"),
    ]  # fmt: skip
    with plane.services.store.writing() as session:
        session.execute(text("UPDATE campaigns SET document = '{'"))
    answers.append(client.get(f"{at}/1"))
    assert {answer.status_code for answer in answers} >= {
        200, 201, 400, 401, 404, 405, 412, 415, 422, 428, 500, 503,
    }  # fmt: skip
    for answer in answers:
        assert secret not in answer.text
        assert secret not in str(answer.headers)
    assert caplog.text, "there are logs to look at"
    assert secret not in caplog.text
    # The id is no secret: changes name it.
    assert any(key.partition(".")[0] in answer.text for answer in answers)


def test_the_database_holds_no_secret(plane, deployment, body):
    plane.editor.post("/api/v1/campaigns", json=body).raise_for_status()
    secret = plane.first_key.partition(".")[2].encode()
    for path in deployment.root.rglob("*"):
        if path.is_file() and path != deployment.api_key_path:
            assert secret not in path.read_bytes(), path.name
