from __future__ import annotations

import threading

import pytest

from campaigns.changes import Change, new_campaign, store_campaign
from campaigns.publish import Publisher
from campaigns.shape import Shaped
from campaigns.store import Sequence, open_store
from market.errors import NotReady
from market.intent import Intent, intent_version, read_intent, write_intent


def create(store, actor, asked):
    campaign = new_campaign(actor, Shaped(asked, ()))
    with store.writing() as session:
        return store_campaign(session, actor, campaign, Change("create", "why", 5), None)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "intent"


def test_a_new_store_publishes_version_1_without_campaigns(store, folder):
    assert Publisher(store, folder).publish() == 1
    assert read_intent(folder) == Intent(1, ())


def test_every_change_is_a_version_with_all_campaigns_in_it(store, actor, asked, folder):
    publisher = Publisher(store, folder)
    first = create(store, actor, asked)
    assert publisher.publish() == 2
    second = create(store, actor, asked)
    assert publisher.publish() == 3
    assert read_intent(folder) == Intent(3, (first, second))
    assert publisher.version == 3


def test_publishing_what_is_out_already_writes_nothing(store, folder):
    publisher = Publisher(store, folder)
    publisher.publish()
    (folder / "current").unlink()
    publisher.publish()
    assert intent_version(folder) == 0


def test_a_crash_between_commit_and_publication_is_healed_at_the_next_start(
    store, actor, asked, folder, tmp_path
):
    Publisher(store, folder).publish()
    created = create(store, actor, asked)
    # Here the process dies: nobody published.
    store.close()
    assert read_intent(folder) == Intent(1, ())
    reopened = open_store(tmp_path / "campaigns.sqlite")
    assert Publisher(reopened, folder).publish() == 2
    assert read_intent(folder) == Intent(2, (created,))
    reopened.close()


def test_a_crash_in_the_middle_of_publication_is_healed_at_the_next_start(store, folder):
    write_intent(folder, Intent(1))
    (folder / "0000000001.json").write_bytes(b"{")
    (folder / "0000000002.tmp").write_bytes(b"{")
    Publisher(store, folder).publish()
    assert read_intent(folder) == Intent(1, ())


def test_files_newer_than_a_restored_store_are_replaced_at_start(store, folder):
    write_intent(folder, Intent(9))
    assert Publisher(store, folder).publish() == 1
    assert read_intent(folder) == Intent(1, ())


def test_a_folder_that_cannot_be_written_is_not_ready_and_is_retried(store, folder):
    folder.write_text("a file where a folder should be")
    publisher = Publisher(store, folder)
    with pytest.raises(NotReady, match="cannot be published"):
        publisher.publish()
    assert publisher.is_behind
    folder.unlink()
    assert publisher.publish() == 1
    assert not publisher.is_behind
    assert read_intent(folder).version == 1


def test_when_many_change_at_once_the_last_state_is_published(store, actor, asked, folder):
    publisher = Publisher(store, folder)

    def change():
        for _ in range(5):
            create(store, actor, asked)
            publisher.publish()

    threads = [threading.Thread(target=change) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    intent = read_intent(folder)
    assert intent.version == 21
    assert [each.campaign_id for each in intent.campaigns] == list(range(1, 21))
    with store.reading() as session:
        assert session.get(Sequence, "campaign").next_id == 21
    line_items = [item.line_item_id for each in intent.campaigns for item in each.line_items]
    assert sorted(line_items) == list(range(1, 41))
