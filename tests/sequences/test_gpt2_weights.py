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
    for source in (theirs.state_dict(), tmp_path / "model.safetensors"):
        ours = load_gpt2(source, heads=2)
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
