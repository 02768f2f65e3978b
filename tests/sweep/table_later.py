"""Valid arguments of flows, latent variables, networks, sequences, tokens, training, the zoo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.sweep.valid import (
    CACHE,
    FIELD,
    FLOW,
    IMAGE_VAE,
    IMAGES,
    LABELS,
    LIKELIHOOD,
    LM,
    LSTM,
    P2,
    T4,
    TEXTS,
    TMP,
    TOKENIZER,
    TOKENS,
    TRANSFORMER,
    VAE,
    Fresh,
    X,
    _checkpoint,
    _spline,
    _tiny_data,
    attribute,
    call,
    floats,
    made,
    row,
    wholes,
)

LABELS_OF_BOTH = torch.tensor([0, 1, 0, 1])


def _looked() -> Any:
    """An observer that has looked at a model."""
    stop = attribute("EarlyStopping").make()(lambda model: 0.0, every=1)
    stop(1, made("vae.VAE").make())
    return stop


PIECES = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "a",
    "cat",
    "sat",
    "##s",
    "on",
    "the",
    "mat",
]
PARTS = torch.tensor([[0, 0, -1, -1, -1, -1]] * 4)  # the sentence of each of their tokens
SENTENCES = torch.tensor([[3, 4, 2, 0, 0, 0]] * 4)

LOGITS = floats(4, 6, 5).log_softmax(-1)
SPEECH = row(mels=3, hidden=4, context=1, vocab_size=5, dropout=0.1, x=floats(4, 6, 3),
    lengths=torch.tensor([6, 4, 5, 6]), y=torch.tensor([[1, 2], [3, 0], [4, 4], [2, 1]]),
    y_lengths=torch.tensor([2, 1, 2, 0]))  # fmt: skip

# fmt: off
LATER: dict[str, dict[str, Any]] = {
    "bases": row(z=X, like=X, components=2, low=-1.0, high=1.0, base="normal"),
    "continuous": row(f=torch.sin, epsilon=X, **FIELD),
    "dequantization": row(shape=(1, 4, 4), x=IMAGES, v=IMAGES, y=IMAGES, x_0=IMAGES * 2 - 1,
        z=IMAGES),
    "dequantization.ImageFlow": row(y=None, flow="realnvp", **{"**": {}}, x_0=floats(4, 16),
        z=floats(4, 16)),
    "dequantization.ImageFlow.__init__": row(**{"**": row(hidden=(8,), transforms=2)}),
    "flow": row(**FLOW, z=X),
    "flow.Flow.__init__": row(base=call("bases.NormalBase", 3), transforms=Fresh(lambda:
        [made("transforms.Coupling").make()])),
    "flow.RealNVP": row(transforms=2),
    "flow.MAF": row(transforms=2),
    "flow.NSF": row(transforms=2),
    "flow.IAF": row(transforms=2, **{"**": {}}),
    "flow.IAF.__init__": row(**{"**": row(features=3, hidden=(8,), transforms=2)}),
    "glow": row(shape=(1, 4, 4), scales=2, steps=1, hidden=4, bins=4, channels=4, x=floats(4, 4,
        4, 4), z=floats(4, 4, 4, 4), features=4, matrix=torch.eye(4)),
    "glow.Glow": row(x=floats(4, 16), z=floats(4, 16)),
    "glow.Multiscale": row(x=floats(4, 16), z=floats(4, 16)),
    "ode": row(u=lambda x, t: -x, x=X, start=0.0, end=1.0, steps=2, t=0.0, h=0.1, order=1,
        method="rk4", nodes=(0.0,), weights=(1,)),
    "ode.advance": row(method=Fresh(lambda: attribute("ode.METHODS").make()["rk4"])),
    "spline": row(knots=Fresh(lambda: _spline()[0]), at=Fresh(lambda: _spline()[1]),
        value=floats(3), bins=4, y=floats(3), x=floats(3), xi=floats(3), above=floats(3) / 9,
        bound=2.0, parameters=floats(11, 3)),
    "spline.Knots": row(slope=floats(3)),
    "spline.Bins": row(w=T4, h=T4, d0=T4, d1=T4, y=T4),
    "spline_kernel": row(parameters=floats(11, 3, 4), value=floats(3, 4), bound=2.0, xi=T4,
        theta=T4, s=T4, bend=T4, omega=T4, part=T4, above=T4, slope=T4),
    "transforms": row(features=3, hidden=(8,), z=X, transform=made("transforms.Coupling"),
        transforms=Fresh(lambda: [made("transforms.Coupling").make()]), matrix=torch.eye(3),
        layer=Fresh(lambda: nn.Linear(3, 4)), bias=T4),
    "univariate": row(parameters=floats(2, 3, 4), x=floats(3, 4), z=floats(3, 4), bins=4),
    "univariate.Spline": row(parameters=floats(11, 3, 4)),
    "autoencoder": row(latent=2, hidden=8, sigma=0.5, x_t=X, r=lambda x: x / 2, a=X, b=X / 2,
        score=X, hessian=floats(4, 3, 3), mean=floats(3), directions=floats(2, 3),
        variances=floats(2), weight=floats(3, 2), variance=torch.tensor(0.5), k=1),
    "autoencoder.PPCA.fit": row(variance=0.5, x=floats(9, 3)),
    "autoencoder.PrincipalComponents": row(directions=floats(3, 3), variances=floats(3)),
    "autoencoder.small_noise_penalty": row(x=floats(3)),
    "conditional_vae": row(**VAE, classes=2, y=LABELS, alpha=1.0, bounds=-floats(4, 2),
        q=Fresh(lambda: torch.distributions.Categorical(logits=floats(4, 2)))),
    "conditional_vae.ConditionalVAE": row(**{"**": {}}),
    "conditional_vae.ConditionalVAE.__init__": row(**{"**": row(shape=(1, 2, 2), latent=2,
        hidden=8)}),
    "image_vae.ImageVAE": row(z=floats(4, 2)),
    "conditional_vae.ConditionalVAE.sample": row(y=LABELS[:3]),
    "conditional_vae.SemiSupervisedVAE.sample": row(y=LABELS[:3]),
    "estimators": row(f=torch.square, mean=0.5, std=1.0, eps=T4),
    "image_vae": row(**IMAGE_VAE, model=made("vae.VAE"), threshold=0.01, steps=2, k=2),
    "vae": row(**VAE, model=made("vae.VAE"), threshold=0.01, log_w=floats(2, 4)),
    "vae.IWAE.__init__": row(**{"**": row(shape=(1, 2, 2), latent=2, hidden=8)}),
    "distributions": row(**LIKELIHOOD, parameters=floats(4, 1, 1, 2, 2), loc=X, log_scale=-X,
        value=(X * 3).round() / 3, mean=X, std=X + 0.1, name="bernoulli", mean_1=floats(2),
        mean_2=floats(2), cov_1=torch.eye(2), cov_2=2 * torch.eye(2)),
    "distributions.normal_draws": row(q=Fresh(lambda:
        attribute("distributions.DiagonalNormal").make()()(floats(4, 6))), k=2),
    "distributions.BernoulliImage.check": row(x=floats(4, 1, 2, 2).round()),
    "distributions.DiagonalNormal": row(parameters=floats(4, 6)),
    "distributions.DiscretizedLogisticMixture": row(parameters=floats(4, 2, 1, 2, 2)),
    "distributions.Likelihood": row(distribution=Fresh(lambda:
        torch.distributions.Normal(floats(4, 1, 2, 2), 1.0))),
    "masked": row(mask=floats(4, 3) > 0.5, hidden=(8,), outputs=2, size=8, net=Fresh(lambda:
        made("masked.MaskedMLP").make())),
    "masked.Reader.__init__": row(context=floats(3, 2), net=made("masked.MaskedMLP",
        context=2)),
    "masked.Reader.add": row(x=floats(3), self=made("masked.Reader")),
    "masked.Reader.parameters": row(self=made("masked.Reader")),
    "masked.to_columns": row(net=Fresh(lambda: attribute("nets.mlp").make()(3, 2, (4,)))),
    "nets": row(inputs=3, outputs=2, hidden=8, net="mlp", channels=2, code_size=2, per_value=1,
        linear=Fresh(lambda: [nn.Linear(3, 3), nn.Linear(3, 2)]), layer=Fresh(lambda:
        nn.Linear(3, 3))),
    "nets.Decoder": row(z=X),
    "nets.one_hot": row(k=LABELS, size=2),
    "nets.Features": row(shape=(1, 8, 8), channels=8, features=8, dropout=0.1),
    "nets.check_features": row(shape=(1, 8, 8), channels=8),
    "nets.Residual": row(x=floats(2, 2, 4, 4)),
    "nets.mlp": row(hidden=(8,)),
    "nets.transposed_convolutions": row(shape=(1, 8, 8)),
    "recipes": row(name="nsf_moons", budget="quick"),
    "attention": row(**TRANSFORMER, q=floats(2, 3, 4), k=floats(2, 5, 4), v=floats(2, 5, 4),
        p=T4, t=4, like=X, positions=torch.arange(3.0), position=0, cache=Fresh(lambda:
        CACHE.make().begin(2, 4)), n=2),
    "attention.MultiHeadAttention": row(k=floats(2, 2, 5, 2), v=floats(2, 2, 5, 2)),
    "attention.MultiHeadAttention.keys_and_values": row(),
    "autoregressive": row(**LM, log_p=-T4, characters=6, model=made("gpt.GPT"), stream=wholes(5,
        12)),
    "autoregressive.perplexity": row(tokens=6),
    "bert": row(**LM, context=6, layers=1, heads=2, width=4, positions=(0, 2), a_given_b=P2 /
        P2.sum(0), b_given_a=P2 / P2.sum(1, keepdim=True), p=P2, logits=floats(4, 6, 5),
        M=TOKENS > 2, sweeps=1),
    "bert.mlm_mask": row(mask=5, pad=0, ends=(1, 2)),
    "bert.initialise": row(module=Fresh(lambda: nn.Linear(3, 3))),
    "original_bert": row(**LM, context=6, layers=1, heads=2, width=4, dropout=0.1, mask=4, pad=0,
        ends=(1, 2), positions=(0, 2), sweeps=1, segments=wholes(2, 4, 6), follows=LABELS),
    "original_bert.OriginalBERT.gibbs_sample": row(n=4),
    "bert_weights": row(source=Fresh(lambda: _bert()), heads=2, tokenizer=Fresh(lambda:
        _wordpiece())),
    "foreign_weights": row(source=Fresh(lambda: _gpt2()), tensors=Fresh(lambda: {"a": floats(3,
        3), "h.0.b": floats(3)}), config={"a": 1}, expected={"a": 1}, kind="thing", before="h.",
        name="a", theirs=lambda name: ["a"] if name == "weight" else ["h.0.b"], model=Fresh(lambda:
        nn.Linear(3, 3)), transposed=["weight"]),
    "bert.BERT.gibbs_sample": row(n=4),
    "decoding": row(step=lambda tokens, state: (floats(len(tokens), 5), state), state=(),
        first=LABELS, width=2, length=3, logits=floats(4, 5), top_k=2, top_p=0.9, k=2, p=0.9,
        temperature=0.7, eos=1, length_penalty=0.6),
    "gpt": row(**LM, context=8, layers=1, heads=2, width=4, state=Fresh(lambda:
        made("gpt.GPT").make().begin(4, 8))),
    "gpt.cache_bytes": row(tokens=6),
    "gpt.count_flops": row(tokens=6),
    "gpt2_weights": row(source=Fresh(lambda: _gpt2()), heads=2),
    "gumbel": row(logits=floats(4, 5), tau=0.5),
    "made": row(hidden=8, x=(X > 0.5).float()),
    "ngram": row(stream=wholes(5, 12), order=2, vocab_size=5, context=wholes(5, 3),
        train="a cat sat", test="on the mat"),
    "patches": row(shape=(1, 4, 4), patch=2, width=8, p=2, h=2, w=2, x=floats(4, 1, 4, 4),
        patches=floats(4, 4, 4)),
    "pixel_likelihoods.CategoricalImage": row(parameters=floats(4, 4, 1, 2, 2)),
    "pixel_likelihoods": row(**LIKELIHOOD, logits=floats(4, 3, 4), value=(X * 3).round() / 3),
    "pixelcnn": row(shape=(1, 4, 4), levels=4, channels=4, layers=1, kernel=3, x=IMAGES,
        v=floats(2, 4, 4, 4), h=floats(2, 4, 4, 4), link=floats(2, 4, 4, 4), kind="A", inputs=1,
        outputs=2, rows=2, model=made("pixelcnn.PixelCNN"), i=1, j=1, features=floats(2, 4, 4,
        4)),
    "pixelcnn.GatedBlock.horizontal": row(link=floats(2, 8, 4, 4), h=floats(2, 4, 4, 5)),
    "pixelcnn.masked_stack": row(layers=2),
    "pixelcnn.Memory.features": row(self=Fresh(lambda: _row_of_memory())),
    "pixelcnn.MaskedConv2d": row(x=floats(2, 1, 4, 4)),
    "recurrent": row(**LM, hidden=4, x=floats(4, 3), h=floats(4, 2), state=(floats(4, 2),
        floats(4, 2)), weights=LSTM, w_hh=floats(2, 2), loss_grads=floats(3, 2)),
    "recurrent.RecurrentLM": row(state=Fresh(lambda:
        made("recurrent.RecurrentLM").make().begin(4, 8))),
    "recurrent.gru_cell": row(weights=(floats(6, 3), floats(6, 2), floats(6), floats(6))),
    "recurrent.rnn_cell": row(weights=(floats(2, 3), floats(2, 2), floats(2), floats(2))),
    "recurrent.jacobian_norms": row(h=floats(2), cell=lambda x, h: torch.tanh(h + x.sum())),
    "scaling": row(E=1.5, A=10.0, B=20.0, alpha=0.3, beta=0.3, N=torch.logspace(3, 5, 6),
        D=torch.logspace(4, 6, 6), L=4 - torch.linspace(0, 1, 6), draws=2, C=1000000000.0,
        law=call("scaling.Law", 1.5, 10.0, 20.0, 0.3, 0.3), quantity=lambda law: law.E,
        laws=Fresh(lambda: [attribute("scaling.Law").make()(1.5, 1.0, 1.0, 0.3, 0.3)] * 4)),
    "seq2seq": row(vocab_size=5, width=4, layers=1, heads=2, context=8, source=SENTENCES,
        target=SENTENCES, logits=floats(4, 5), targets=wholes(5, 4), smoothing=0.1, length=4,
        **{"*": ()}),
    "seq2seq.Seq2Seq.check": row(**{"*": (SENTENCES, SENTENCES)}),
    "seq2seq.Seq2Seq.check_batch": row(**{"*": (SENTENCES, SENTENCES)}),
    "seq2seq.Seq2Seq.translate": row(width=2),
    "seq2seq_nets": row(**TRANSFORMER, context=8, shown=torch.ones(2, 5).bool(), y=floats(2, 3,
        4)),
    "seq2seq_nets.TransformerNet": row(state=Fresh(lambda: _begun("TransformerNet"))),
    "seq2seq_nets.RecurrentNet": row(state=Fresh(lambda: _begun("RecurrentNet"))),
    "seq2seq_nets.TransformerNet.read": row(x=floats(2, 5, 4)),
    "seq2seq_nets.RecurrentNet.read": row(x=floats(2, 5, 4)),
    "seq2seq_nets.TransformerNet.step": row(y=floats(2, 1, 4)),
    "seq2seq_nets.RecurrentNet.step": row(y=floats(2, 1, 4)),
    "speculative": row(p=torch.tensor([[0.2, 0.8]]), q=torch.tensor([[0.4, 0.6]]),
        tokens=TOKENS[:, :3], model=made("gpt.GPT"), draft=made("gpt.GPT"), n=2, ahead=2),
    "speculative.generate": row(tokens=TOKENS[:1, :3]),
    "transformer": row(**TRANSFORMER, hidden=8, y=floats(2, 3, 4), gain=floats(4),
        bias=floats(4), slope=floats(2, 3, 4), position=0, n=2),
    "transformer.TransformerBlock": row(memory=None, cache=Fresh(lambda:
        made("transformer.TransformerBlock").make().begin(2, 4))),
    "transformer.Transformer": row(caches=Fresh(lambda:
        made("transformer.Transformer").make().begin(floats(2, 5, 4), 4))),
    "vqvae": row(shape=(1, 8, 8), codes=4, code_size=2, hidden=4, x=(floats(4, 1, 8, 8) >
        0.5).float(), z=floats(4, 2, 2, 2), total=T4, z_q=T4, codebook_loss=T4,
        commitment_loss=T4, k=4),
    "vqvae.VQVAE.decode": row(codes=wholes(4, 4, 2, 2)),
    "vqvae.perplexity": row(codes=wholes(4, 9)),
    "vqvae.VectorQuantizer.lookup": row(k=wholes(4, 4, 2, 2)),
    "vqvae.VectorQuantizer.ema_update": row(z=floats(5, 2), k=wholes(4, 5)),
    "wavenet": row(**LM, levels=5, channels=4, layers=2, stacks=1, kernel=2, dilation=2,
        inputs=4, outputs=4, x=floats(2, 4, 8), h=floats(2, 4, 8), queue=floats(2, 2, 4), t=0,
        mu=4.0, y=X, dilations=(1, 2), state=Fresh(lambda:
        made("wavenet.WaveNet").make().begin(4, 8))),
    "wavenet.CausalConv1d.step": row(x=floats(2, 4)),
    "wavenet.GatedLayer.step": row(h=floats(2, 4)),
    "wavenet.compress": row(x=X),
    "wavenet.mu_law_encode": row(x=X),
    "bpe": row(text="a cat sat", count=3, tokens=[1, 2, 1, 2], pair=(1, 2)),
    "completion": row(model=made("gpt.GPT", vocab_size=25, context=16), prompt="a cat", n=2,
        tokenizer=TOKENIZER),
    "wordpiece": row(tokenizers=Fresh(lambda: _wordpiece()._inner.to_str()), words=PIECES,
        lowercase=True, accents=False, chinese=True, text="a cat", tokens=[5, 6]),
    "foreign_tokenizer": row(folder=Fresh(lambda: _vocabulary()), path=Fresh(lambda: _vocabulary() /
        "vocab.txt")),
    "foreign_tokenizer.read_json": row(path=Fresh(lambda: _vocabulary() / "words.json")),
    "framing": row(tokenizer=Fresh(lambda: _wordpiece()), a="a cat", b="sat", length=6,
        texts=["a cat", ("a cat", "sat")]),
    "tokenizer": row(texts=TEXTS, text="a cat", tokens=[5, 6], alphabet="abc", words=["cat",
        "sat"], encoded=[[5, 6], [7]], length=4, tokenizer=TOKENIZER, size=270),
    "tokenizer.BPETokenizer.__init__": row(tokenizers=Fresh(lambda: _bpe()._inner.to_str())),
    "tokenizer.BPETokenizer": row(self=Fresh(lambda: _bpe())),
    "tokenizer.WordTokenizer": row(text="cat", tokens=[4, 5]),
    "tokenizer.rows": row(length=24),
    "tokenizer.CharTokenizer": row(text="abc"),
    "tokenizer.from_json": row(text='{"kind": "characters", "alphabet": "abc"}'),
    "checkpoint": row(path=Fresh(_checkpoint), model=made("made.MADE"), data=Fresh(_tiny_data),
        header=Fresh(lambda: attribute("checkpoint.info").make()(_checkpoint())),
        tensors=Fresh(lambda: made("made.MADE").make().state_dict()), kind=Fresh(lambda:
        attribute("MADE").make())),
    "config": row(steps=4, batch_size=2, lr=0.001, betas=(0.9, 0.99)),
    "run.History": row(losses={"loss": [1.0]}),
    "train": row(model=made("vae.VAE", shape=(1, 4, 4), classes=2, likelihood="normal"),
        data=Fresh(_tiny_data), progress=False, config=call("TrainConfig", steps=1, batch_size=4)),
    "early_stopping": row(measure=lambda model: 0.0, model=made("vae.VAE"), step=100),
    "early_stopping.EarlyStopping.restore": row(self=Fresh(_looked)),
    "finetuning": row(encoder=made("vae.VAE"), classes=2, x=VAE["x"], y=LABELS, codes=X, w=T4,
        w_0=T4 / 2, pull=0.1, modules=Fresh(lambda: [nn.Linear(3, 2), nn.Linear(2, 2)]),
        decay=0.5),
    "freezing": row(module=Fresh(lambda: nn.Linear(3, 3)), parts=()),
    "language_tasks": row(encoder=made("bert.BERT", pad=0), vocab_size=5, layers=1, heads=2,
        context=8, source=SENTENCES, target=SENTENCES, length=8, tokens=SENTENCES,
        segments=PARTS, y=PARTS[:, :2] + 1, k=1, tokenizer=TOKENIZER, texts=[TEXTS, TEXTS[:1]],
        reference=TEXTS[1], score=attribute("language.rouge_l"), gate=floats(2, 3),
        log_p=floats(2, 3, 5).log_softmax(2), attention=floats(2, 3, 4).softmax(2), **{"*": ()}),
    "language_tasks.Extractive": row(sentences=2),
    "language_tasks.EncoderDecoder.check": row(**{"*": (SENTENCES, SENTENCES)}),
    "language_tasks.EncoderDecoder.check_batch": row(**{"*": (SENTENCES, SENTENCES)}),
    "language_tasks.Extractive.check_batch": row(**{"*": (SENTENCES, PARTS, PARTS[:, :2] + 1)}),
    "language_tasks.EncoderDecoder.translate": row(width=2, length=4),
    "language_tasks.lead": row(sentences=TEXTS),
    "language_tasks.oracle_extract": row(sentences=TEXTS),
    "language_tasks.copy_log_prob": row(source=SENTENCES[:2, :4]),
    "lora": row(module=made("transformer.TransformerBlock"), names=["q", "v"], rank=2,
        base=Fresh(lambda: nn.Linear(3, 4)), x=X, delta=P2),
    "lora.best_update": row(rank=1),
    "audio": row(x=floats(2, 40), X=floats(2, 9, 7).cfloat(), magnitudes=floats(2, 9, 7), window=12,
        hop=3, length=18, samples=40, iterations=2, f=T4, m=T4, n_mels=3, n_fft=12, rate=8000,
        low=50.0, high=3000.0, floor=1e-6),
    "audio.spectral_distance": row(x=floats(2, 18)),
    "waveforms": row(path=Fresh(lambda: _sound_file()), samples=floats(40), rate=8000,
        new_rate=16_000),
    "diagrams": row(boxes={"x": (0.0, 0.0, "x"), "y": (1.0, 0.0, "y")}, arrows=[("x", "y")],
        size=(3.0, 1.0), plain=("x",), fontsize=9.0),
    "parallelism": row(P=10, devices=2, sharded="weights", stages=2, parts=3,
                       vectors=[T4, T4]),
    "regularization": row(x=X, w=floats(3), rate=0.2),
    "probe": row(mean=floats(3), std=floats(3), weight=floats(2, 3), bias=floats(2), penalty=1.0,
        y=LABELS_OF_BOTH, validation=(X, LABELS_OF_BOTH), classes=2, penalties=(1.0, 0.1)),
    "pretraining": row(shape=(1, 8, 8), x=floats(4, 1, 8, 8), features=8, channels=8, scores=P2,
        first=X, second=X / 2 + 0.1, temperature=0.3, shift=0.1, scale=0.1, turn=0.1,
        brightness=0.1, noise=0.1, erase=0.3, given={"shift": 0.1}),
    "masked_autoencoder": row(shape=(1, 4, 4), patch=2, width=8, layers=1, heads=2, rate=0.5,
        x=IMAGES, patches=floats(4, 4, 4), made=floats(4, 2, 4), hidden=torch.tensor([[0, 1], [2,
        1], [3, 0], [1, 2]])),
    "alignments": row(**SPEECH, log_p=LOGITS, blank=0, name="lengths", rows=LOGITS, size=6,
        like=LOGITS, e=LOGITS, l=wholes(5, 4, 5), places=torch.tensor([5, 3, 5, 5]),
        alpha=floats(4, 5), alphas=-floats(4, 6, 5), last=-floats(4, 5), value=-T4,
        values=-floats(4, 6, 5)),
    "ctc": row(**SPEECH, log_p=LOGITS, logits=LOGITS, path=(0, 1, 1, 0, 2), blank=0, width=3,
        score=-1.0),
    "ctc.ctc_prefix_beam": row(log_p=LOGITS[0], language_model=lambda y: [-1.0] * 5, weight=0.5,
        bonus=0.1),
    "ctc.Hypothesis": row(y=(1, 2), log_p=-1.0),
    "recognizer": row(**SPEECH, a=T4, encoder=None, width=3, weight=0.5, bonus=0.1, rate=0.5),
    "masked_speech": row(**SPEECH, rate=0.4, span=2, frames=6),
    "zoo": row(name="nsf_moons", data="digits", path=Fresh(lambda:
        attribute("zoo.path").make()("nsf_moons"))),
    "zoo.tokenizer": row(name="gpt_poems"),
    "zoo.tokenizer_of": row(path=Fresh(lambda: attribute("zoo.path").make()("gpt_poems"))),
}
# fmt: on


def _sound_file() -> Path:
    TMP.mkdir(exist_ok=True)
    return attribute("waveforms.write").make()(TMP / "a.wav", floats(40), 8000)


def _wordpiece() -> Any:
    return attribute("wordpiece.WordPieceTokenizer").make().from_words(PIECES)


def _vocabulary() -> Path:
    """A folder with the files of a tokenizer."""
    folder = TMP / "vocabulary"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(PIECES), "utf-8")
    (folder / "words.json").write_text('{"a": 1}', "utf-8")
    return folder


def _bert() -> Any:
    ends = {"word_embeddings": 12, "position_embeddings": 6, "token_type_embeddings": 2}
    found = {f"embeddings.{name}.weight": floats(size, 4) for name, size in ends.items()}
    linear = {
        **{f"attention.self.{name}": (4, 4) for name in ("query", "key", "value")},
        "attention.output.dense": (4, 4),
        "intermediate.dense": (16, 4),
        "output.dense": (4, 16),
    }
    linear = {f"encoder.layer.0.{name}": size for name, size in linear.items()}
    linear |= {"pooler.dense": (4, 4), "cls.predictions.transform.dense": (4, 4)}
    linear["cls.seq_relationship"] = (2, 4)
    norms = ["embeddings", "cls.predictions.transform"]
    norms += [f"encoder.layer.0.{name}" for name in ("attention.output", "output")]
    for name, size in {**linear, **{f"{norm}.LayerNorm": (4,) for norm in norms}}.items():
        found |= {f"{name}.weight": floats(*size), f"{name}.bias": floats(size[0])}
    return {**found, "cls.predictions.bias": floats(12)}


def _bpe() -> Any:
    return attribute("tokenizer.BPETokenizer").make().fit(TEXTS * 3, size=270)


def _begun(kind: str) -> Any:
    memory, shown = floats(2, 5, 4), torch.ones(2, 5).bool()
    return made(f"seq2seq_nets.{kind}").make().begin(memory, shown, 4)


def _gpt2() -> Any:
    sizes = {
        "ln_1": (4,),
        "attn.c_attn": (4, 12),
        "attn.c_proj": (4, 4),
        "ln_2": (4,),
        "mlp.c_fc": (4, 16),
        "mlp.c_proj": (16, 4),
    }
    block = {f"h.0.{name}.weight": floats(*size) for name, size in sizes.items()}
    block |= {f"h.0.{name}.bias": floats(size[-1]) for name, size in sizes.items()}
    ends = {"wte.weight": (5, 4), "wpe.weight": (8, 4), "ln_f.weight": (4,), "ln_f.bias": (4,)}
    return block | {name: floats(*size) for name, size in ends.items()}


def _row_of_memory() -> Any:
    with torch.no_grad():  # what has no gradient can be copied
        memory = made("pixelcnn.Memory").make()
        memory.start_row(1)
    return memory
