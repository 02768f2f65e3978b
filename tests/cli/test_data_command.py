"""``gentext data``."""

from command_line import run

from gentext import data, text


def test_data_list_shows_every_data_set_in_a_line():
    lines = run("data", "list").output.splitlines()
    assert [line.split(":")[0] for line in lines] == [*data.names(), *text.names()]


def test_data_fetch_says_where_the_data_are(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "fetch", lambda name, *, root: (root or tmp_path) / name)
    assert run("data", "fetch", "mnist").text == f"mnist is in {tmp_path / 'mnist'}"
    elsewhere = run("data", "fetch", "mnist", "--root", str(tmp_path / "mine")).text
    assert elsewhere == f"mnist is in {tmp_path / 'mine' / 'mnist'}"
