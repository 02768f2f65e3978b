"""Which trained model is meant, and what its file says of the data."""

import json
from pathlib import Path

import pytest
from command_line import keep, run, tiny, tiny_text

import gentext as gt
from gentext import checkpoint, zoo
from gentext.cli import trained as files
from gentext.cli.trained import Trained, TrainingData
from gentext.core import Model, Represents
from gentext.recipes import RECIPES

CARD = {"recipe": "tiny", "data": {"name": "digits", "shape": [1, 8, 8], "image_shape": None}}


def bundle(**card):
    """Untrained weights in the zoo, and their card."""
    file = checkpoint.save(zoo.FOLDER / "tiny.safetensors", tiny()[0], recipe="tiny")
    (zoo.FOLDER / "tiny.json").write_text(json.dumps({**CARD, **card}))
    return file


def test_the_zoo_is_used_without_a_checkpoint():
    file = bundle()
    assert run("sample", "tiny", "--n", 2).text == "saved grid.png"
    assert run("evaluate", "tiny", "--limit", 20).exit_code == 0
    found = files.load("tiny")
    assert (found.name, found.file, found.tokenizer) == ("tiny", file, None)


def test_a_checkpoint_of_another_recipe_is_not_taken_for_this_one(trained):
    shown = run("sample", "vae_digits", "--checkpoint", trained)
    assert shown.exit_code == 2
    assert "was trained as 'tiny', not 'vae_digits'" in shown.stderr


def test_the_data_stand_in_the_card_of_the_zoo_or_in_the_header_of_the_file(tmp_path):
    bundle(data={**CARD["data"], "classes": ["a", "b"], "levels": 17, "licence": "free"})
    said = TrainingData("digits", (1, 8, 8), (), ("a", "b"), 17)
    assert files.load("tiny").data == said
    model, dataset, _ = tiny_text()
    file = keep(tmp_path / "t.safetensors", model, dataset, tokenizer=dataset.tokenizer)
    found = files.load("mine", file)
    assert found.data == TrainingData("poem", (16,))
    assert found.shape == (16,)
    assert found.tokenizer.to_json() == dataset.tokenizer.to_json()


@pytest.mark.parametrize("entry", [None, {"name": "digits", "train": 9}])
def test_a_file_that_says_nothing_of_its_data_is_refused_when_asked(tmp_path, entry):
    """The shape of an example the model knows itself."""
    file = checkpoint.save(tmp_path / "v.safetensors", tiny()[0])
    header, tensors = checkpoint.read(file)
    checkpoint.write(file, tensors, {**header, "data": entry})
    found = files.load("mine", file)
    assert found.data is None
    assert found.shape == (1, 8, 8)
    with pytest.raises(ValueError, match=r"v.safetensors does not say what they cost; .*data="):
        found.known("what they cost")


def test_a_model_of_networks_of_its_maker_is_for_python(tmp_path):
    file = checkpoint.save(tmp_path / "v.safetensors", tiny()[0])
    header, tensors = checkpoint.read(file)
    checkpoint.write(file, tensors, {**header, "arguments": None})
    with pytest.raises(ValueError, match=r"v.safetensors holds .* networks of its maker, .*Python"):
        files.load("tiny", file)


def test_what_is_known_is_given():
    data = TrainingData("digits", (1, 8, 8))
    model = tiny()[0]
    found = Trained(name="tiny", file=zoo.FOLDER / "x", model=model, data=data)
    assert found.known("anything") is data
    assert found.device == next(model.parameters()).device


def test_the_folder_of_a_training_stands_for_its_file(trained):
    assert files.load("tiny", zoo.FOLDER.parent / trained).file.name == "checkpoint.safetensors"


def test_weights_that_are_missing_are_told_from_names_that_are():
    bundle()
    assert "tiny_text" in RECIPES
    with pytest.raises(ValueError, match=r"'tiny_text' come with gentext; train it by `gentext tr"):
        files.load("tiny_text")
    with pytest.raises(ValueError, match=r"unknown experiment 'tinny': did you mean 'tiny'\?"):
        files.load("tinny")


def test_an_encoder_is_a_name_of_the_zoo_a_file_or_a_folder(trained):
    file = bundle()
    found = files.encoder(Path("tiny"))
    assert (found.name, found.file, found.data.name) == ("tiny", file, "digits")
    folder = files.encoder(Path(trained))
    inside = Path(trained) / "checkpoint.safetensors"
    assert (folder.name, folder.file) == (str(inside), inside)
    assert files.encoder(inside).data.shape == (1, 8, 8)
    assert files.encoders() == ["tiny"]


def test_what_cannot_encode_is_refused_with_what_can(tmp_path):
    bundle()
    model, dataset, _ = tiny_text()
    file = checkpoint.save(tmp_path / "t.safetensors", model, data=dataset)
    words = "holds a RecurrentLM, which cannot encode, .* encoders that come with it are tiny; or"
    with pytest.raises(ValueError, match=words):
        files.encoder(file)
    with pytest.raises(ValueError, match="there is no checkpoint none, and no weights of that"):
        files.encoder(Path("none"))


def test_the_help_names_every_kind_of_encoder():
    """Each class whose features can be trained is named, or one that it is built on.

    An encoder of speech is refused there: it is a ``Recognizer`` that begins from it.
    """
    named = run("finetune", "--help").text
    with pytest.raises(ValueError, match="does not say of which shape its examples are"):
        gt.Finetuned(encoder=gt.MaskedSpeechEncoder(mels=2, hidden=2), classes=2)
    models = [getattr(gt, name) for name in gt.__all__ if name != "MaskedSpeechEncoder"]
    for kind in models:
        if isinstance(kind, type) and issubclass(kind, Model) and issubclass(kind, Represents):
            assert any(part.__name__ in named for part in kind.__mro__[:-3]), kind
