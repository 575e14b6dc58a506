import json

from bidder.recommendation.training_open_bandit import main
from tests.bidder.recommendation.test_open_bandit import write_logs


def test_the_command_trains_and_judges_and_says_how_few_clicks_there_are(tmp_path, capsys):
    write_logs(tmp_path, rows=1_200)
    assert main([str(tmp_path), "--seed", "3"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["scores"]["pcvr"] is None
    assert report["random"]["row_count"] == 360
    assert report["bts"]["row_count"] == 1_200
    assert f"{report['bts']['positive_count']} (bts)" in report["caution"]
    values = {
        (value["log"], value["policy"]): value["value"]
        for value in report["values"]
        if value["value"]["clip"] is None
    }
    assert set(values) == {
        (log, policy) for log in ("random", "bts") for policy in ("uniform", "model")
    }
    # one item is clicked five times as often as the others: the model shows it more
    for log in ("random", "bts"):
        assert values[log, "model"]["snips"] > values[log, "uniform"]["snips"]


def test_one_line_says_what_is_missing(tmp_path, capsys):
    assert main([str(tmp_path / "nowhere")]) == 2
    error = capsys.readouterr().err
    assert "item_context.csv is missing" in error
    assert error.count("\n") == 1
