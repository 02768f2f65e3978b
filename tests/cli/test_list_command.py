"""``gentext list``."""

from command_line import run, tiny

from gentext import checkpoint, recipes


def test_list_shows_every_recipe_in_a_line(tmp_path):
    lines = run("list").output.splitlines()
    for name in recipes.RECIPES:
        assert sum(line.split()[:1] == [name] for line in lines) == 1
    assert "none yet" in lines[-1]
    checkpoint.save(tmp_path / "zoo" / "tiny.safetensors", tiny()[0])
    (tmp_path / "zoo" / "tiny.json").write_text('{"recipe": "tiny", "metrics": {"elbo": -12.5}}')
    assert run("list").output.splitlines()[-1].split() == ["tiny", "elbo", "-12.5"]
