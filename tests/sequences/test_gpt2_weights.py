"""Weights of GPT-2 against the model of Hugging Face that they come from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gentext.sequences.gpt2_weights import load_gpt2

pytestmark = pytest.mark.usefixtures("float64")


def test_logits_of_a_hugging_face_checkpoint(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import save_file

    config = transformers.GPT2Config(vocab_size=40, n_positions=12, n_embd=16, n_layer=3, n_head=2)
    torch.set_default_dtype(torch.float32)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    tokens = torch.randint(40, (2, 12))
    save_file(theirs.transformer.state_dict(), tmp_path / "model.safetensors")
    folders = [tmp_path / name for name in ("whole", "parts")]
    for folder, size in zip(folders, ("5GB", "10KB"), strict=True):
        theirs.save_pretrained(folder, max_shard_size=size)
    assert not (folders[1] / "model.safetensors").exists()
    for source in (theirs.state_dict(), tmp_path / "model.safetensors", *folders):
        ours = load_gpt2(source, **({} if source in folders else {"heads": 2}))
        assert (ours.bos, ours.context, ours.training) == (39, 12, False)
        expected = theirs(tokens).logits
        torch.testing.assert_close(ours.logits(tokens), expected, atol=1e-4, rtol=0)
    prompt = tokens[:, :4]
    text = theirs.generate(
        torch.cat([torch.full((2, 1), 39), prompt], 1),
        attention_mask=torch.ones(2, 5),
        max_new_tokens=7,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    assert (ours.generate(prompt, 7, temperature=0.0) == text[:, 1:]).all()


def test_what_is_no_gpt2_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "damaged.safetensors").write_bytes(b"damaged")
    for name, reason in (("none", "No such file"), ("damaged", "header|small")):
        with pytest.raises(ValueError, match=rf"{name}\.safetensors cannot be read.*({reason})"):
            load_gpt2(f"~/{name}.safetensors")
    with pytest.raises(ValueError, match=r"no GPT-2.*wte\.weight"):
        load_gpt2({"weight": torch.zeros(2)})


def test_a_checkpoint_of_the_small_size_has_its_shapes() -> None:
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        state = transformers.GPT2LMHeadModel(transformers.GPT2Config()).state_dict()
        model = load_gpt2(state)
    assert sum(p.numel() for p in model.parameters()) == 124_439_808
    assert (model.bos, model.context, len(model.blocks)) == (50_256, 1024, 12)


def test_a_tensor_of_another_shape_or_a_gap_is_named(tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 9, "n_positions": 4, "n_embd": 8, "n_layer": 3, "n_head": 2}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
    state = model.transformer.state_dict()
    changed = {**state, "h.1.mlp.c_fc.weight": torch.zeros(32, 8)}
    with pytest.raises(
        ValueError, match=r"'h.1.mlp.c_fc.weight' has the shape \(32, 8\).*\(8, 32\)"
    ):
        load_gpt2(changed, heads=2)
    with pytest.raises(ValueError, match=r"no tensor 'h\.1\."):
        load_gpt2({name: t for name, t in state.items() if not name.startswith("h.1.")}, heads=2)
    model.config.activation_function = "relu"
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="activation_function='relu', and only 'gelu_new'"):
        load_gpt2(tmp_path)
