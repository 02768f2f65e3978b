"""Checkpoints: what is saved comes back, and what is not one is refused without harm."""

import json
import os
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from gentext import checkpoint, zoo
from gentext.core import Model
from gentext.data import Dataset
from gentext.latent.vae import VAE
from gentext.sequences.recurrent import RecurrentLM
from gentext.tokens.tokenizer import CharTokenizer
from gentext.training.config import TrainConfig
from gentext.training.train import fit


class Tied(Model):
    """Two names for one weight, a buffer of integers, one that is not saved."""

    def __init__(self, *, width: int = 4, sizes: tuple[int, ...] = (2, 3)) -> None:
        super().__init__()
        self.embed = nn.Linear(width, width, bias=False)
        self.head = nn.Linear(width, width)
        self.head.weight = self.embed.weight
        self.sizes = sizes
        self.register_buffer("count", torch.tensor(0))
        self.register_buffer("scratch", torch.zeros(3), persistent=False)


class Wrapper(Model):
    def __init__(self, *, net: nn.Module) -> None:
        super().__init__()
        self.net = net


def vae(**changes):
    arguments = {"shape": (1, 4, 4), "latent": 3, "hidden": 8, "likelihood": "bernoulli"}
    return VAE(**{**arguments, **changes})


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = vae()
    return model, checkpoint.save(tmp_path / "model.safetensors", model)


def same(one, other):
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(a == b and torch.equal(s, t) and s.dtype == t.dtype for (a, s), (b, t) in pairs)


def rewrite(path, **changes):
    """Change fields of the header and nothing else."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["gentext"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {"gentext": json.dumps({**header, **changes})})
    return path


# There and back


def test_a_model_comes_back_with_the_same_bits_and_arguments(saved):
    model, path = saved
    back = checkpoint.load(path)
    assert type(back) is VAE
    assert same(model, back)
    assert back.arguments == model.arguments
    assert not back.training


def test_the_header_says_what_was_saved(tmp_path):
    path = tmp_path / "sub" / "folder" / "m.safetensors"
    checkpoint.save(path, vae(), recipe="vae_fashion", step=7, metrics={"elbo": -1.5})
    info = checkpoint.info(path)
    assert (info["class"], info["recipe"], info["step"]) == ("VAE", "vae_fashion", 7)
    assert info["metrics"] == {"elbo": -1.5}
    assert info["format"] == checkpoint.FORMAT
    assert info["torch"] == torch.__version__
    assert info["arguments"]["shape"] == [1, 4, 4]


def test_half_precision_halves_the_file_and_loads_as_float32(saved, tmp_path):
    model, path = saved
    half = checkpoint.save(tmp_path / "half.safetensors", model, dtype=torch.float16)
    back = checkpoint.load(half)
    tensors, bytes_of = model.state_dict(), lambda p: p.stat().st_size
    assert bytes_of(path) - bytes_of(half) == pytest.approx(
        sum(t.numel() * 2 for t in tensors.values()), abs=100
    )
    for name, tensor in back.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, tensors[name].half().float())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision_keeps_it(tmp_path, dtype):
    model = vae().to(dtype)
    assert same(model, checkpoint.load(checkpoint.save(tmp_path / "m.safetensors", model)))


def test_tied_weights_are_saved_once_and_stay_tied(tmp_path):
    model = Tied(width=5)
    model.count.fill_(2**40)
    path = checkpoint.save(tmp_path / "m.safetensors", model, dtype=torch.float16)
    _, tensors = checkpoint.read(path)
    assert sorted(tensors) == ["count", "embed.weight", "head.bias"]
    back = checkpoint.load(path, model=Tied(width=5))
    assert back.head.weight is back.embed.weight
    assert torch.equal(back.embed.weight, model.embed.weight.half().float())
    assert back.count == 2**40


def test_a_class_goes_by_its_public_name_and_the_old_form_is_read(saved):
    model, path = saved
    assert checkpoint.info(path)["class"] == "VAE"
    for old in ("gentext.vae:VAE", "gentext.latent.vae:VAE"):
        back = checkpoint.load(rewrite(path, **{"class": old}))
        assert type(back) is VAE
        assert same(model, back)
        other = vae()
        assert checkpoint.load(path, model=other) is other
        assert same(model, other)


def test_a_class_that_gentext_does_not_offer_goes_by_its_place_and_needs_the_model(tmp_path):
    model = Tied(width=3)
    path = checkpoint.save(tmp_path / "m.safetensors", model)
    assert checkpoint.info(path)["class"] == f"{Tied.__module__}:Tied"
    with pytest.raises(ValueError, match=r"no model of this gentext.*load\(path, model=\.\.\.\)"):
        checkpoint.load(path)
    with torch.no_grad():
        (other := Tied(width=3)).embed.weight.zero_()
    assert same(checkpoint.load(path, model=other), model)


def test_numbers_of_numpy_are_stored_as_numbers(tmp_path):
    model = Tied(width=np.int64(3), sizes=(2, np.int32(5)))
    path = checkpoint.save(tmp_path / "m.safetensors", model)
    assert checkpoint.info(path)["arguments"] == {"width": 3, "sizes": [2, 5]}
    assert same(checkpoint.load(path, model=Tied(width=3, sizes=(2, 5))), model)


def test_the_header_says_what_the_data_were(tmp_path):
    path, model = tmp_path / "m.safetensors", vae()
    x = torch.zeros(2, 16, dtype=torch.int64)
    about = {"name": "grey", "shape": (16,), "image_shape": (4, 4), "levels": 16}
    about |= {"classes": ("a", "春"), "tokenizer": CharTokenizer("ab")}
    data = Dataset(train=(x,), test=(), **about)
    info = checkpoint.info(checkpoint.save(path, model, data=data))
    expected = {"name": "grey", "shape": [16], "image_shape": [4, 4], "classes": ["a", "春"]}
    assert info["data"] == {**expected, "levels": 16}
    assert info["tokenizer"] == data.tokenizer.to_json()
    checkpoint.save(path, model, data=data, tokenizer=CharTokenizer("ba"))
    assert checkpoint.info(path)["tokenizer"] == CharTokenizer("ba").to_json()


def test_what_data_do_not_say_is_none(tmp_path):
    class Own:
        name, train, levels = "own", (torch.zeros(2, 3),), np.int64(16)

    path = tmp_path / "m.safetensors"
    unsaid = dict.fromkeys(("shape", "image_shape", "classes"))
    checkpoint.save(path, vae(), data=Own())
    assert checkpoint.info(path)["data"] == {"name": "own", "levels": 16, **unsaid}
    for mere in (None, torch.zeros(2, 3), (torch.zeros(2, 3),), [torch.zeros(2, 3)]):
        assert checkpoint.info(checkpoint.save(path, vae(), data=mere))["data"] is None
    header, tensors = checkpoint.read(path)
    del header["data"]  # as files of before
    assert checkpoint.info(checkpoint.write(path, tensors, header))["data"] is None


def test_networks_passed_in_need_the_model(tmp_path):
    model = Wrapper(net=nn.Linear(2, 2))
    path = checkpoint.save(tmp_path / "m.safetensors", model)
    assert checkpoint.info(path)["arguments"] is None
    other = Wrapper(net=nn.Linear(2, 2))
    assert checkpoint.load(path, model=other) is other
    assert same(model, other)
    path = checkpoint.save(path, vae(net=(nn.Flatten(), nn.Linear(3, 16))))
    with pytest.raises(ValueError, match=r"such as networks.*load\(path, model=\.\.\.\)"):
        checkpoint.load(path)


# What stands around a model, and what was done to it


WRAPPERS = {
    "compile": lambda model: torch.compile(model, backend="eager"),
    "DataParallel": nn.DataParallel,
    "both": lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_the_model_inside_a_wrapper_is_saved_and_filled(saved, wrap):
    model, path = saved
    before = path.read_bytes()
    checkpoint.save(path, wrap(model))
    assert path.read_bytes() == before
    other = vae()
    assert checkpoint.load(path, model=wrap(other)) is other
    assert same(other, model)


def parametrised(model):
    nn.utils.parametrizations.spectral_norm(model.encoder.features[1])
    return model


def old_style(model):
    nn.utils.weight_norm(model.encoder.features[1])
    return model


def of_another_size(model):
    model.encoder.features[1] = nn.Linear(16, 9)
    return model


def quantised(model):
    torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8, inplace=True)
    return model


@pytest.mark.filterwarnings("ignore")  # of ways that are old
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (torch.optim.swa_utils.AveragedModel, r"AveragedModel around VAE; .*its \.module"),
        (lambda _: nn.Linear(2, 2), r"got Linear, which is no gentext\.Model"),
        (parametrised, "VAE was changed after it was built .*parametrizations"),
        (old_style, "VAE was changed after it was built .*weight_g"),
        (of_another_size, r"changed after it was built \(encoder\.features\.1\.bias, "),
        (quantised, "save the model before it is quantised|no parameters to train"),
    ],
)
def test_what_could_not_be_loaded_is_not_written(tmp_path, change, message):
    for write in (checkpoint.save, lambda path, model: fit(model, PIXELS, ONE, out=path.parent)):
        with pytest.raises(ValueError, match=message):
            write(tmp_path / "run" / "checkpoint.safetensors", change(vae()))
        assert os.listdir(tmp_path) == []


PIXELS, ONE = (torch.rand(8, 1, 4, 4).round(),), TrainConfig(steps=1)


def test_a_look_at_the_constructor_leaves_the_generator(tmp_path):
    model, before = vae(), torch.get_rng_state()
    checkpoint.save(tmp_path / "m.safetensors", model)
    assert torch.equal(torch.get_rng_state(), before)


def test_what_was_measured_may_be_numbers_of_numpy_and_tensors(tmp_path):
    measured = {"elbo": np.float32(-1.5), "iw": torch.tensor(2.0), "n": np.int64(3)}
    path = checkpoint.save(tmp_path / "m.safetensors", vae(), metrics=measured, step=np.int64(4))
    info = checkpoint.info(path)
    assert (info["metrics"], info["step"]) == ({"elbo": -1.5, "iw": 2.0, "n": 3.0}, 4)


@pytest.mark.parametrize("default", [{"dtype": torch.float64}, {"device": "meta"}])
def test_what_others_set_as_default_does_not_matter(saved, tmp_path, float64, default):
    model, path = saved
    torch.set_default_dtype(default.get("dtype", torch.float32))
    torch.set_default_device(default.get("device"))
    try:
        back = checkpoint.load(path)
        checkpoint.save(tmp_path / "again.safetensors", back)
    finally:
        torch.set_default_device(None)
    assert same(back, model)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


# What is no checkpoint of ours


def test_the_folder_of_a_training_is_as_good_as_its_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = vae()
    checkpoint.save("~/run/checkpoint.safetensors", model)
    assert same(checkpoint.load("~/run"), model)
    assert checkpoint.info(tmp_path / "run")["class"] == "VAE"
    with pytest.raises(ValueError, match=r"no checkpoint\.safetensors in the folder"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "evil:Model",
        "os:system",
        "Module",
        "torch",
        "Nothing",
        "Model",  # which has no loss
        "fit",
        "vae",
        "elsewhere:VAE",
        "gentext.vae:Nothing",
        "gentextual:VAE",
        "",
    ],
)
def test_only_models_of_this_package_are_built(saved, tmp_path, monkeypatch, name):
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    (tmp_path / "gentextual.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    path = rewrite(saved[1], **{"class": name})
    with pytest.raises(ValueError, match="which is no model of this gentext"):
        checkpoint.load(path)
    assert "evil" not in sys.modules


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": [1, 4, 4], "latent": 3, "wings": 2}, "cannot be rebuilt by VAE.*wings"),
        ({"shape": [1, 4, 4], "latent": -3}, "cannot be rebuilt by VAE.*latent"),
        ({"shape": [1, 4, 4], "latent": 5, "hidden": 8}, r"has shape .* in the file and"),
    ],
)
def test_arguments_that_do_not_fit_the_weights_are_refused(saved, arguments, message):
    path = rewrite(saved[1], arguments=arguments)
    with pytest.raises(ValueError, match=message):
        checkpoint.load(path)


def test_another_model_is_not_filled(saved):
    _, path = saved
    other = Tied()
    before = other.embed.weight.clone()
    with pytest.raises(ValueError, match="holds a VAE, not a Tied; pass a model of class VAE"):
        checkpoint.load(path, model=other)
    assert torch.equal(other.embed.weight, before)
    with pytest.raises(ValueError, match="trained with likelihood='bernoulli', not likelihood="):
        checkpoint.load(path, model=vae(likelihood="normal", scale=1.0))
    path = rewrite(path, arguments={}, **{"class": "gentext.vae:VAE"})
    with pytest.raises(ValueError, match="on one side only"):
        checkpoint.load(path, model=vae(net="conv", shape=(1, 8, 8)))


# Texts


def letters(alphabet):
    """A model of three letters, rows of them, and the tokenizer of ``alphabet``."""
    torch.manual_seed(0)
    made = None if alphabet is None else CharTokenizer(alphabet)
    rows = torch.randint(4, 7, (16, 5), generator=torch.Generator().manual_seed(1))
    data = Dataset(name="own", train=(rows,), test=(), shape=(5,), tokenizer=made)
    return RecurrentLM(vocab_size=7, hidden=4), data


def test_the_tokenizer_is_in_the_header(tmp_path):
    model, data = letters('a"春')  # a quotation mark must survive JSON within JSON
    path = checkpoint.save(tmp_path / "m.safetensors", model, tokenizer=data.tokenizer)
    assert zoo.tokenizer_of(path).alphabet == 'a"春'
    assert checkpoint.info(path)["tokenizer"] == data.tokenizer.to_json()
    assert checkpoint.info(checkpoint.save(path, model))["tokenizer"] is None


def test_training_saves_the_tokenizer_and_goes_on_only_with_the_same(tmp_path):
    config = TrainConfig(steps=4, batch_size=4, save_every=2)
    model, data = letters("abc")
    fit(model, data, config, out=tmp_path / "a", progress=False)
    file = tmp_path / "a" / "checkpoint.safetensors"
    assert zoo.tokenizer_of(file).to_json() == data.tokenizer.to_json()
    before = file.read_bytes()
    for other in ("acb", None):
        with pytest.raises(ValueError, match=r"tokenizer is another one.*in a new folder"):
            fit(*letters(other), config, out=tmp_path / "a", resume=True, progress=False)
        assert file.read_bytes() == before
    again = letters("abc")[0]
    fit(again, data, config, out=tmp_path / "a", resume=True, progress=False)
    assert same(again, model)


# The zoo


def test_the_zoo_gives_models_and_cards_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    model = vae()
    for name in ("vae_two", "vae_one"):
        checkpoint.save(tmp_path / f"{name}.safetensors", model, dtype=torch.float16)
        (tmp_path / f"{name}.json").write_text(json.dumps({"recipe": name, "seed": 3}))
    made = CharTokenizer("abc")
    poet = RecurrentLM(vocab_size=7, hidden=4)
    checkpoint.save(tmp_path / "writer.safetensors", poet, tokenizer=made, dtype=torch.float16)
    assert zoo.names() == ("vae_one", "vae_two", "writer")
    assert zoo.tokenizer("writer").to_json() == made.to_json()
    with pytest.raises(ValueError, match=r"vae_one.* no tokenizer"):
        zoo.tokenizer("vae_one")
    expected = {name: t.half().float() for name, t in model.state_dict().items()}
    back = zoo.load("vae_one").state_dict()
    assert all(torch.equal(back[name], t) for name, t in expected.items())
    assert zoo.card("vae_two") == {"recipe": "vae_two", "seed": 3}
    for ask in (zoo.load, zoo.card):
        with pytest.raises(ValueError, match=r"unknown weights 'gan': .*vae_one, vae_two"):
            ask("gan")


def test_an_empty_zoo_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="unknown weights 'vae': there are none"):
        zoo.load("vae")
