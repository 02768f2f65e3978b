"""``gentext sample``: new examples from a trained model."""

from __future__ import annotations

from typing import Any

from gentext.cli import options


def sample(
    name: options.Name,
    checkpoint: options.Checkpoint = None,
    n: options.Number = None,
    seed: options.Seed = 0,
    mean: options.Mean = False,
    prompt: options.Prompt = None,
    length: options.Length = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    beam: options.Beam = None,
    label: options.Label = None,
    steps: options.SampleSteps = None,
    sampler: options.Sampler = None,
    guidance: options.Guidance = None,
    out: options.SampleOut = None,
) -> None:
    """Draw new examples from a trained model: a picture, texts, a table; translate a text.

    Example: gentext sample vae_fashion --n 64 --seed 0 --out grid.png

    gentext sample gpt_poems --prompt 春 --n 4 --temperature 0.8

    gentext sample nsf_moons --n 1000 --out points.csv

    gentext sample seq2seq_en_zh --prompt "He bought three books." --beam 4

    gentext sample diffusion_fashion --n 16 --label Sandal --guidance 1 --out sandals.png

    gentext sample latent_diffusion_emoji --prompt "red heart" --guidance 2 --out hearts.png
    """
    from gentext.cli import outputs, trained

    asked: dict[str, Any] = {"n": n, "mean": mean or None, "prompt": prompt, "length": length}
    asked |= {"temperature": temperature, "top_k": top_k, "top_p": top_p, "beam": beam}
    asked |= {"label": label, "steps": steps, "sampler": sampler, "guidance": guidance}
    given = {key: value for key, value in asked.items() if value is not None}
    output = outputs.output_of(trained.load(name, checkpoint))
    output.check_place(out)
    output.write(output.draw(given, seed), out)
