"""Each kind of output: which options it heeds, how it is drawn and written."""

import re
from pathlib import Path

import pytest
import torch
from command_line import POEM, keep, run, tiny_painter, tiny_pixels
from PIL import Image

from gentext import checkpoint, plot, recipes, zoo
from gentext.cli import outputs
from gentext.cli.trained import Trained, TrainingData
from gentext.data import Dataset, prepared
from gentext.flows.flow import NSF
from gentext.latent.vae import VAE
from gentext.sequences.recurrent import RecurrentLM
from gentext.tokens.completion import complete
from gentext.tokens.tokenizer import CharTokenizer, rows


def test_a_model_that_cannot_draw_says_so(tmp_path, monkeypatch):
    run("train", "autoencoder_digits", "--steps", 2, "--out", "ae")
    shown = run("sample", "autoencoder_digits", "--checkpoint", "ae")
    assert shown.exit_code == 2
    assert "a Autoencoder cannot draw samples" in shown.stderr


def test_a_vocabulary_of_another_size_is_refused(poet, tmp_path):
    model = RecurrentLM(vocab_size=99, hidden=4)
    wrong = checkpoint.save(
        tmp_path / "wrong.safetensors", model, tokenizer=CharTokenizer(POEM[:5])
    )
    refused = run("sample", "tiny_text", "--checkpoint", wrong)
    assert refused.exit_code == 2
    assert "knows 9 tokens, but the model 99" in refused.text


@pytest.mark.parametrize(
    "options", [("--prompt", "cat"), ("--temperature", 0.5), ("--beam", 2), ("--length", 9)]
)
def test_images_take_no_options_of_texts(trained, options):
    refused = run("sample", "tiny", "--checkpoint", trained, *options)
    assert refused.exit_code == 2
    assert f"tiny makes images and takes no {options[0]}; leave it out" in refused.text


def test_what_has_no_expected_image_takes_no_mean(tmp_path):
    file = checkpoint.save(tmp_path / "p.safetensors", recipes.pixelcnn_digits("quick")[0])
    refused = run("sample", "pixelcnn_digits", "--checkpoint", file, "--mean")
    assert refused.exit_code == 2
    assert "takes no --mean" in refused.text


def test_a_model_that_fills_gaps_draws_nothing(tmp_path):
    model, dataset, _ = recipes.bert_poems("quick")
    file = checkpoint.save(tmp_path / "b.safetensors", model, tokenizer=dataset.tokenizer)
    refused = run("sample", "bert_poems", "--checkpoint", file, "--prompt", "春")
    assert refused.exit_code == 2
    assert "a BERT cannot draw samples" in refused.text


def test_a_density_of_tables_writes_rows_that_can_be_read_again(tmp_path):
    model = recipes.nsf_moons("quick")[0]
    file = checkpoint.save(tmp_path / "m.safetensors", model)
    options = ("--n", 5, "--temperature", 0.5, "--seed", 4)
    assert run("sample", "nsf_moons", "--checkpoint", file, *options).text == "saved rows.csv"
    names, *rows = Path("rows.csv").read_text("utf-8").splitlines()
    assert names == "x1,x2"
    wanted = model.eval().sample(5, temperature=0.5, generator=torch.Generator().manual_seed(4))
    written = torch.tensor([[float(value) for value in row.split(",")] for row in rows])
    torch.testing.assert_close(written, wanted, atol=1e-5, rtol=1e-5)
    refused = run("sample", "nsf_moons", "--checkpoint", file, "--mean")
    assert "makes rows and takes no --mean" in refused.text


def test_points_in_the_plane_become_a_picture(tmp_path):
    model, dataset, _ = recipes.nsf_moons("quick")
    file = keep(tmp_path / "m.safetensors", model, dataset)
    asked = ("sample", "nsf_moons", "--checkpoint", file, "--n", 5, "--out")
    assert run(*asked, "new/points.png").text == "saved new/points.png"
    with Image.open("new/points.png") as picture:
        assert min(picture.size) > 100
    wide = keep(tmp_path / "s.safetensors", NSF(features=3), three_columns())
    refused = run("sample", "table", "--checkpoint", wide, "--out", "points.png")
    assert refused.exit_code == 2
    assert "only points in the plane make a picture; give --out points.csv" in refused.text
    assert not Path("points.png").exists()


def three_columns():
    """A table of three columns."""
    x = torch.zeros(4, 3)
    return Dataset(name="table", train=(x,), test=(x,), shape=(3,))


def test_a_place_is_refused_before_anything_is_drawn(trained, monkeypatch):
    monkeypatch.setattr(VAE, "sample", lambda *_, **__: pytest.fail("this takes minutes"))
    Path("there").mkdir()
    for out, said in (("there", "is a folder"), ("a.jpg", "does not end in .png")):
        refused = run("sample", "tiny", "--checkpoint", trained, "--out", out)
        assert refused.exit_code == 2
        assert said in refused.text


def test_a_gan_of_points_writes_rows(tmp_path):
    model = recipes.gan_gaussians("quick")[0]
    file = checkpoint.save(tmp_path / "m.safetensors", model)
    options = ("--n", 4, "--temperature", 0.5, "--seed", 4)
    assert run("sample", "gan_gaussians", "--checkpoint", file, *options).text == "saved rows.csv"
    wanted = model.eval().sample(4, temperature=0.5, generator=torch.Generator().manual_seed(4))
    lines = Path("rows.csv").read_text("utf-8").splitlines()[1:]
    written = torch.tensor([[float(value) for value in line.split(",")] for line in lines])
    torch.testing.assert_close(written, wanted, atol=1e-5, rtol=1e-5)
    shown = run("evaluate", "gan_gaussians", "--checkpoint", file, "--limit", 50).text
    assert re.search(r"modes +\d+ +found +near +[\d.]+ +share of the samples", shown)


def test_a_flow_of_images_heeds_the_temperature(tmp_path):
    model = recipes.realnvp_digits("quick")[0].eval()
    file = checkpoint.save(tmp_path / "r.safetensors", model)
    options = ("--n", 4, "--temperature", 0.0)
    drawn = run("sample", "realnvp_digits", "--checkpoint", file, *options)
    assert drawn.text == "saved grid.png"
    plot.save_grid(model.sample(4, temperature=0.0), tmp_path / "wanted.png")
    assert Image.open("grid.png").tobytes() == Image.open(tmp_path / "wanted.png").tobytes()


def test_a_diffusion_draws_a_class_in_steps_past_the_label(tmp_path):
    model, dataset, _ = recipes.diffusion_fashion("quick")
    model.eval()
    with torch.no_grad():  # so that what it predicts is not 0
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    file = keep(tmp_path / "d.safetensors", model, dataset)
    ways = ("--steps", 3, "--sampler", "ddim", "--guidance", 1.5)
    for label in ("Sandal", "5"):
        asked = ("--checkpoint", file, "--n", 4, "--label", label)
        assert run("sample", "diffusion_fashion", *asked, *ways).text == "saved grid.png"
        options = {"steps": 3, "sampler": "ddim", "guidance": 1.5}
        seeded = torch.Generator().manual_seed(0)
        wanted = model.sample(4, torch.full((4,), 5), generator=seeded, **options)
        plot.save_grid(wanted, tmp_path / "wanted.png")
        assert Image.open("grid.png").tobytes() == Image.open(tmp_path / "wanted.png").tobytes()
    for given, said in (
        (("--label", "Hat"), "no class 'Hat'; choose one of T-shirt"),
        (("--label", "10"), "no class '10'"),
        (("--guidance", 2), "give --label, or leave it out"),
        (("--steps", 2000), "2000 steps"),
        (("--mean",), "takes no --mean"),
    ):
        refused = run("sample", "diffusion_fashion", "--checkpoint", file, "--n", 2, *given)
        assert refused.exit_code == 2
        assert said in refused.text
    plain = checkpoint.save(tmp_path / "r.safetensors", recipes.realnvp_digits("quick")[0])
    refused = run("sample", "realnvp_digits", "--checkpoint", plain, "--label", "3")
    assert "takes no --label" in refused.text


def test_a_picture_is_drawn_of_its_name(tmp_path):
    model, dataset = tiny_painter()
    with torch.no_grad():  # so that what it predicts is not 0
        for parameter in model.diffusion.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    file = checkpoint.save(tmp_path / "e.safetensors", model, tokenizer=dataset.tokenizer)
    asked = ("sample", "tiny_painter", "--checkpoint", file, "--n", 3)
    options = {"steps": 3, "guidance": 1.5, "mean": True}
    for prompt in ("red heart", "dog face"):
        ways = ("--prompt", prompt, "--steps", 3, "--guidance", 1.5, "--mean")
        assert run(*asked, *ways).text == "saved grid.png"
        y = rows(dataset.tokenizer, [prompt] * 3, prepared.PROMPT)
        wanted = model.sample(3, y, generator=torch.Generator().manual_seed(0), **options)
        plot.save_grid(wanted, tmp_path / "wanted.png")
        assert Image.open("grid.png").tobytes() == Image.open(tmp_path / "wanted.png").tobytes()
    assert run(*asked, "--steps", 2).text == "saved grid.png"
    for given, said in (
        (("--prompt", "xylograph"), "'xylograph'"),
        (("--guidance", 2), "give --prompt, or leave it out"),
        (("--label", "3"), "takes no --label"),
        (("--temperature", 0.5), "takes no --temperature"),
    ):
        refused = run(*asked, *given)
        assert refused.exit_code == 2
        assert said in refused.text


def test_a_prompt_is_read_by_the_tokenizer_of_the_model(tmp_path):
    model, dataset = tiny_painter()
    asked = ("sample", "tiny_painter", "--prompt", "red heart", "--n", 1, "--checkpoint")
    without = checkpoint.save(tmp_path / "a.safetensors", model)
    assert "has no tokenizer" in run(*asked, without).text
    other = CharTokenizer("red hat")
    wrong = checkpoint.save(tmp_path / "b.safetensors", model, tokenizer=other)
    assert f"knows {other.size} tokens, but the model {dataset.tokenizer.size}" in (
        run(*asked, wrong).text
    )


def test_masked_tokens_are_filled_in_so_many_steps(tmp_path):
    model, dataset, _ = recipes.masked_diffusion_poems("quick")
    file = checkpoint.save(tmp_path / "m.safetensors", model.eval(), tokenizer=dataset.tokenizer)
    asked = (
        "sample",
        "masked_diffusion_poems",
        "--checkpoint",
        file,
        "--prompt",
        "春",
        "--seed",
        3,
    )
    written = [run(*asked, "--steps", steps).text for steps in (1, 5, 5)]
    assert written[1] == written[2] != written[0]
    seeded = torch.Generator().manual_seed(3)
    wanted = complete(model, dataset.tokenizer, "春", prepared.POEM - 1, generator=seeded, steps=5)
    assert written[1] == " ".join(wanted.split())
    refused = run(*asked, "--length", prepared.POEM)
    assert f"writes {prepared.POEM - 1} tokens at most" in refused.text
    refused = run(*asked[:4], "--prompt", "春" * prepared.POEM)
    assert f"goes on from {prepared.POEM - 1} at most" in refused.text
    model, dataset, _ = recipes.masked_diffusion_digits("quick")
    file = keep(tmp_path / "d.safetensors", model.eval(), dataset)
    asked = ("sample", "masked_diffusion_digits", "--checkpoint", file, "--n", 2)
    assert run(*asked, "--steps", 4).text == "saved grid.png"
    empty, seeded = torch.empty(2, 0, dtype=torch.long), torch.Generator().manual_seed(0)
    tokens = model.generate(empty, 64, steps=4, generator=seeded)
    plot.save_grid((tokens / 16).view(2, 1, 8, 8), tmp_path / "wanted.png")
    assert Image.open("grid.png").tobytes() == Image.open(tmp_path / "wanted.png").tobytes()


@pytest.mark.parametrize(
    ("name", "ways"), [("score_digits", {"sampler": "ddim"}), ("flow_matching_digits", {})]
)
def test_images_of_a_density_inside_are_drawn_in_so_many_steps(tmp_path, name, ways):
    model = recipes.build(name, "quick")[0].eval()
    file = checkpoint.save(tmp_path / "s.safetensors", model)
    given = [part for key, value in ways.items() for part in (f"--{key}", value)]
    drawn = run("sample", name, "--checkpoint", file, "--n", 2, "--steps", 3, *given)
    assert drawn.text == "saved grid.png"
    wanted = model.sample(2, steps=3, generator=torch.Generator().manual_seed(0), **ways)
    plot.save_grid(wanted, tmp_path / "wanted.png")
    assert Image.open("grid.png").tobytes() == Image.open(tmp_path / "wanted.png").tobytes()


@pytest.mark.parametrize("begun", [1, 255, 256, 300])
def test_the_length_is_that_of_what_is_new(poet_without_end, begun):
    """However long the prompt is, by default 256 where there is no context."""
    model, reader, file = poet_without_end
    prompt = "春" * begun
    asked = ("sample", "poet", "--checkpoint", file, "--prompt", prompt)
    for given, n in (((), 256), (("--length", 3), 3)):
        wanted = complete(model, reader, prompt, n, generator=torch.Generator().manual_seed(0))
        assert len(wanted) == begun + n
        assert run(*asked, *given).text == wanted


@pytest.fixture
def poet_without_end(tmp_path):
    """A network that writes on for ever."""
    reader = CharTokenizer("春夏秋冬")
    model = RecurrentLM(vocab_size=reader.size, hidden=4).eval()
    with torch.no_grad():
        model.head.bias[:4] = -99.0  # of the tokens that are no characters, the end among them
    return model, reader, checkpoint.save(tmp_path / "p.safetensors", model, tokenizer=reader)


@pytest.mark.parametrize("temperature", [1.0, 0.0])
def test_tokens_that_are_pixels_are_shown_as_an_image(monkeypatch, tmp_path, temperature):
    monkeypatch.setitem(recipes.RECIPES, "tiny_pixels", tiny_pixels)
    model, dataset, _ = tiny_pixels()
    file = keep(tmp_path / "x.safetensors", model, dataset, recipe="tiny_pixels")
    drawn = run(
        *("sample", "tiny_pixels", "--checkpoint", file, "--n", 5, "--temperature", temperature),
    )
    assert drawn.text == "saved grid.png"
    empty, seeded = torch.empty(5, 0, dtype=torch.long), torch.Generator().manual_seed(0)
    tokens = model.generate(empty, 64, temperature=temperature, generator=seeded)
    images = (tokens.clamp(max=16) / 16).view(5, 1, 8, 8)  # 17 stands before the first, no grey
    plot.save_grid(images, tmp_path / "wanted.png")
    assert Image.open("grid.png").tobytes() == Image.open(tmp_path / "wanted.png").tobytes()
    refused = run("sample", "tiny_pixels", "--checkpoint", file, "--prompt", "7")
    assert "makes pixels and takes no --prompt" in refused.text


def test_a_file_that_does_not_say_what_is_needed_of_the_data_is_refused(tmp_path):
    """A class by its number needs nothing; files written before say nothing of their data."""
    model, dataset, _ = recipes.diffusion_fashion("quick")
    asked = ("sample", "diffusion_fashion", "--n", 1, "--steps", 1, "--checkpoint")
    older = checkpoint.save(tmp_path / "d.safetensors", model)
    assert run(*asked, older, "--label", 5).text == "saved grid.png"
    refused = run(*asked, older, "--label", "Sandal")
    assert refused.exit_code == 2
    assert f"{older} does not say what its classes are called (numbers: 0 to 9)" in refused.text
    assert "checkpoint.save(path, model, data=dataset)" in refused.text
    assert "no class '10'; choose one of 0, 1, 2" in run(*asked, older, "--label", 10).text
    newer = keep(tmp_path / "e.safetensors", model, dataset)
    assert run(*asked, newer, "--label", "Sandal").text == "saved grid.png"
    pixels = checkpoint.save(tmp_path / "p.safetensors", tiny_pixels()[0], recipe="tiny_pixels")
    refused = run("sample", "tiny_pixels", "--checkpoint", pixels)
    assert refused.exit_code == 2
    assert "does not say of which images its tokens are the pixels" in refused.text


@pytest.fixture
def real_zoo(monkeypatch):
    """The weights that come with gentext, on which some recipes build."""
    monkeypatch.setattr(zoo, "FOLDER", Path(zoo.__file__).parent)


def test_tokens_that_are_no_pixels_are_not_shown(real_zoo, tmp_path):
    model, dataset, _ = recipes.gpt_codes("quick")
    file = keep(tmp_path / "c.safetensors", model, dataset)
    refused = run("sample", "gpt_codes", "--checkpoint", file)
    assert refused.exit_code == 2
    assert "gpt_codes makes neither texts nor images to be shown" in refused.text


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("seq2seq_en_zh", outputs.Translations, "beam length prompt"),
        ("gpt_poems", outputs.Texts, "length n prompt temperature top_k top_p"),
        ("masked_diffusion_poems", outputs.Texts, "length n prompt steps temperature top_k top_p"),
        ("gpt_digits", outputs.Pixels, "n temperature top_k top_p"),
        ("nsf_moons", outputs.Rows, "n temperature"),
        ("score_moons", outputs.Rows, "n sampler steps"),
        ("score_digits", outputs.Images, "n sampler steps"),
        ("flow_matching_checkerboard", outputs.Rows, "n steps"),
        ("flow_matching_digits", outputs.Images, "n steps"),
        ("gan_fashion", outputs.Images, "n temperature"),
        ("conditional_vae_fashion", outputs.Images, "label mean n"),
        ("diffusion_fashion", outputs.Images, "guidance label n sampler steps"),
        ("latent_diffusion_fashion", outputs.Images, "guidance label mean n sampler steps"),
        ("latent_diffusion_emoji", outputs.Images, "guidance mean n prompt sampler steps"),
    ],
)
def test_a_kind_is_told_by_the_model_and_its_data(real_zoo, name, kind, options):
    """What each heeds is what the signature of its method has, also of a model inside."""
    model, dataset, _ = recipes.build(name, "quick")
    data = TrainingData(shape=dataset.shape, image_shape=dataset.image_shape)
    words = {"tokenizer": dataset.tokenizer, "data": data}
    for known in (words, {**words, "data": None}):
        found = outputs.output_of(Trained(name=name, file=Path(name), model=model, **known))
        assert type(found) is kind
        assert sorted(found.options) == options.split()


def test_the_shape_of_the_data_tells_rows_from_images():
    """Also of a model that has none of its own, or another."""

    class Drawer(torch.nn.Module):
        def sample(self, n, *, generator=None):
            return torch.zeros(n, 1, 4, 4)

    for shape, kind in (((1, 4, 4), outputs.Images), ((16,), outputs.Rows), ((), outputs.Rows)):
        data = TrainingData(shape=shape) if shape else None
        drawer = Trained(name="d", file=Path("d"), model=Drawer(), data=data)
        assert type(outputs.output_of(drawer)) is kind
