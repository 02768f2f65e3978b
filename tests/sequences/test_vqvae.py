"""VQ-VAE: gradients by autograd, the codebook against Lloyd's algorithm, bounds by enumeration."""

from __future__ import annotations

import inspect
import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from gentext.core import Bound, Encodes, Samples
from gentext.sequences.pixelcnn import PixelCNN
from gentext.sequences.vqvae import VQVAE, VectorQuantizer, perplexity
from gentext.sequences.wavenet import WaveNet

pytestmark = pytest.mark.usefixtures("float64")


def distances(z: Tensor, e: Tensor) -> Tensor:
    return (z[:, None] - e).square().sum(-1)


@pytest.mark.equation("eq-vq-loss")
def test_the_nearest_code_is_found_at_each_place() -> None:
    quantizer = VectorQuantizer(9, 4)
    quantizer.codebook.normal_()
    z = torch.randn(5, 4, 3, 2)
    k = quantizer.nearest(z)
    assert k.shape == (5, 3, 2)
    for n, i, j in itertools.product(range(5), range(3), range(2)):
        assert k[n, i, j] == distances(z[n, :, i, j][None], quantizer.codebook)[0].argmin()
        torch.testing.assert_close(quantizer.lookup(k)[n, :, i, j], quantizer.codebook[k[n, i, j]])


@pytest.mark.equation("eq-vq-loss")
def test_each_term_trains_what_it_should() -> None:
    """A linear decoder, so that the gradient of the reconstruction is known."""
    beta, w, x = 0.25, torch.randn(4, 3), torch.randn(4)
    quantizer = VectorQuantizer(5, 3, decay=None).double()
    nn.init.normal_(quantizer.codebook)
    z = torch.randn(1, 3, requires_grad=True)
    z_q, codes, codebook_loss, commitment_loss = quantizer(z)
    e, k = quantizer.codebook[codes[0]].detach(), int(codes)
    torch.testing.assert_close(z_q.detach()[0], e)
    reconstruction = (x - w @ z_q[0]).square().sum()
    grad_z, grad_e = torch.autograd.grad(
        reconstruction + codebook_loss + beta * commitment_loss, [z, quantizer.codebook]
    )
    at_code = -2 * w.T @ (x - w @ e)
    expected = at_code + 2 * beta * (z[0].detach() - e)
    torch.testing.assert_close(grad_z[0], expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(grad_e[k], 2 * (e - z[0].detach()), atol=1e-12, rtol=0)
    assert grad_e.abs().sum(1).nonzero().flatten().tolist() == [k]
    reconstruction = (x - w @ quantizer(z)[0][0]).square().sum()
    (none,) = torch.autograd.grad(reconstruction, quantizer.codebook, allow_unused=True)
    assert none is None


@pytest.mark.equation("eq-vq-loss")
@pytest.mark.parametrize("decay", [None, 0.9])
def test_the_loss_of_a_model_is_the_sum_of_its_terms(decay: float | None) -> None:
    model = VQVAE(
        shape=(1, 4, 8), codes=5, code_size=3, hidden=8, beta=0.7, decay=decay, likelihood="normal"
    ).eval()
    x = torch.rand(6, 1, 4, 8)
    z = model.encoder(x)
    e = model.quantizer.lookup(model.encode(x))
    scale = model.likelihood.log_scale.exp()
    mean = model.decoder(e)
    log_p = -0.5 * ((x - mean) / scale) ** 2 - scale.log() - 0.5 * math.log(2 * math.pi)
    error = (z - e).square().sum((1, 2, 3))
    weight = 0.7 + (1 if decay is None else 0)
    torch.testing.assert_close(model.loss(x), (weight * error - log_p.sum((1, 2, 3))).mean())


@pytest.mark.equation("eq-vq-ema")
def test_without_memory_the_update_is_a_step_of_lloyd() -> None:
    z = torch.randn(200, 2)
    quantizer = VectorQuantizer(6, 2, decay=0.0, restart=0.0)
    quantizer.codebook.copy_(torch.randn(6, 2))
    quantizer.codebook[5] = 100.0  # a code that is never used stays where it is
    before = math.inf
    for _ in range(6):
        quantizer.train()(z)
        k = distances(z, quantizer.codebook).argmin(1)
        error = float(distances(z, quantizer.codebook).min(1).values.sum())
        assert error < before or _ > 3
        before = error
    for _ in range(40):
        k = distances(z, quantizer.codebook).argmin(1)
        quantizer.ema_update(z, k)
        for j in range(5):
            if (k == j).any():
                torch.testing.assert_close(quantizer.codebook[j], z[k == j].mean(0))
    assert quantizer.codebook[5].tolist() == [100.0, 100.0]


@pytest.mark.equation("eq-vq-ema")
def test_with_memory_codes_are_exponentially_weighted_means() -> None:
    decay, steps = 0.9, 12
    quantizer = VectorQuantizer(3, 2, decay=decay, restart=0.0)
    counts, sums = torch.zeros(3), torch.zeros(3, 2)
    for step in range(steps):
        z, k = torch.randn(20, 2), torch.randint(3, (20,))
        weight = decay ** (steps - 1 - step) * (1 - decay)
        for vector, j in zip(z, k.tolist(), strict=True):
            counts[j] += weight
            sums[j] += weight * vector
        quantizer.ema_update(z, k)
    torch.testing.assert_close(quantizer.counts, counts, atol=1e-12, rtol=0)
    torch.testing.assert_close(quantizer.codebook, sums / counts[:, None], atol=1e-12, rtol=0)


def test_only_training_moves_the_codebook_and_backward_still_works() -> None:
    quantizer = VectorQuantizer(4, 2, decay=0.5)
    z = torch.randn(30, 2, requires_grad=True)
    before = quantizer.codebook.clone()
    quantizer.eval()(z)
    assert quantizer.codebook.equal(before)
    first, second = quantizer.train()(z), quantizer(z)  # the codebook moves between the two
    assert not quantizer.codebook.equal(before)
    (first.z_q.sum() + second.z_q.sum() + first.commitment_loss).backward()
    assert z.grad is not None
    assert first.codebook_loss.requires_grad is False
    with pytest.raises(ValueError, match="trained by gradients"):
        VectorQuantizer(4, 2, decay=None).ema_update(z.detach(), torch.zeros(30).long())


def test_dead_codes_start_anew_at_vectors_of_the_batch() -> None:
    z = torch.randn(50, 2)
    quantizer = VectorQuantizer(4, 2, decay=0.9, restart=0.1)
    quantizer.codebook.copy_(torch.tensor([[0.0, 0.0], [9.0, 9.0], [9.0, -9.0], [-9.0, 9.0]]))
    quantizer.counts.fill_(2.0)
    quantizer.sums.copy_(2.0 * quantizer.codebook)
    quantizer.ema_update(z, torch.zeros(50, dtype=torch.long))
    assert quantizer.codebook[1:].equal(torch.tensor([[9.0, 9.0], [9.0, -9.0], [-9.0, 9.0]]))
    for _ in range(40):  # until their counts fall below a tenth of the mean
        quantizer.ema_update(z, torch.zeros(50, dtype=torch.long))
    codes = quantizer.codebook[1:]
    assert (distances(codes, z).min(1).values < 1e-20).all()
    torch.testing.assert_close(quantizer.sums, quantizer.counts[:, None] * quantizer.codebook)
    assert (quantizer.counts[1:] > 1).all()


def three_steps(model: nn.Module, x: Tensor) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()


def small_model(restart: float) -> VQVAE:
    torch.manual_seed(0)
    model = VQVAE(shape=(1, 8, 8), codes=4, code_size=2, hidden=4, decay=0.5)
    model.quantizer.restart = restart
    model.quantizer.codebook.normal_()
    return model


PARALLEL = """
import json, sys
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from gentext import VQVAE

{functions}
rank, store = int(sys.argv[1]), sys.argv[2]
torch.set_default_dtype(torch.float64)
torch.distributed.init_process_group("gloo", "file://" + store, rank=rank, world_size=2)
x = torch.tensor(json.loads(sys.argv[3]))
for restart in (0.0, 0.5):
    model = small_model(restart)
    torch.manual_seed(rank)
    three_steps(DistributedDataParallel(model), x[rank::2])
    print(json.dumps(model.quantizer.codebook.tolist()))
"""


@pytest.mark.equation("eq-vq-ema")
def test_two_processes_keep_one_codebook(tmp_path: Path) -> None:
    """That of one process with all of the data, if no restart draws from one's own share."""
    functions = "".join(inspect.getsource(f) for f in (three_steps, small_model))
    x = torch.rand(8, 1, 8, 8).round()
    running = [
        subprocess.Popen(
            [
                *(sys.executable, "-c", PARALLEL.format(functions=functions)),
                *(str(rank), str(tmp_path / "store"), json.dumps(x.tolist())),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert outputs[0] == outputs[1]
    without_restarts, with_restarts = (json.loads(line) for line in outputs[0].splitlines())
    model = small_model(0.0)
    three_steps(model, x)
    torch.testing.assert_close(model.quantizer.codebook, torch.tensor(without_restarts))
    assert with_restarts != without_restarts


class Table(nn.Module):
    """A prior over maps of a few codes: one probability for each map."""

    def __init__(self, codes: int, places: int) -> None:
        super().__init__()
        self.codes, self.places = codes, places
        self.log_p = torch.randn(codes**places).log_softmax(0)

    def log_prob(self, tokens: Tensor) -> Tensor:
        return self.log_p[(tokens * self.codes ** torch.arange(self.places)).sum(1)]

    def sample(self, n: int) -> Tensor:
        index = torch.multinomial(self.log_p.exp(), n, replacement=True)
        return index[:, None] // self.codes ** torch.arange(self.places) % self.codes


@pytest.fixture
def model() -> VQVAE:
    """Two places, three codes, and four by eight binary pixels."""
    model = VQVAE(shape=(1, 4, 8), codes=3, code_size=2, hidden=8)
    model.quantizer.codebook.normal_()
    return model.eval()


@pytest.mark.equation("eq-vq-bound")
def test_the_bound_lies_below_the_evidence_of_all_codes(model: VQVAE) -> None:
    x = torch.rand(7, 1, 4, 8).round()
    maps = torch.tensor(list(itertools.product(range(3), repeat=2)))
    likelihoods = torch.stack([model.decode(k.expand(7, 2)).log_prob(x) for k in maps])
    for prior in (None, Table(3, 2)):
        log_prior = torch.full((9,), -2 * math.log(3))
        log_prior = log_prior if prior is None else prior.log_prob(maps)
        joint = likelihoods + log_prior[:, None]
        evidence = joint.logsumexp(0)
        bound = model.elbo(x, prior)
        assert (bound < evidence).all()
        k = model.encode(x).flatten(1)
        for n in range(7):  # the gap is the divergence from one code to the posterior
            index = (maps == k[n]).all(1).nonzero()[0, 0]
            torch.testing.assert_close(bound[n], joint[index, n])
        reconstruction, log_p = model.elbo_terms(x, prior)
        torch.testing.assert_close(reconstruction + log_p, bound)
        if prior is None:
            torch.testing.assert_close(-log_p, torch.full((7,), 2 * math.log(3)))


def test_priors_of_the_other_chapters_fit(model: VQVAE) -> None:
    x = torch.rand(5, 1, 4, 8).round()
    reconstruction, _ = model.elbo_terms(x)
    k = model.encode(x)
    wavenet = WaveNet(levels=3, channels=4, layers=2)
    pixelcnn = PixelCNN(shape=(1, 1, 2), levels=3, channels=4, ordered=False)
    expected = reconstruction + wavenet.log_prob(k.flatten(1))
    torch.testing.assert_close(model.elbo(x, wavenet), expected)
    expected = reconstruction + pixelcnn.log_prob(k[:, None] / 2)
    torch.testing.assert_close(model.elbo(x, pixelcnn), expected)
    for prior in (wavenet, pixelcnn, Table(3, 2), None):
        a, b = (
            model.sample(4, prior, generator=torch.Generator().manual_seed(1)) for _ in range(2)
        )
        assert a.equal(b)
        assert a.shape == (4, 1, 4, 8)


def test_samples_follow_the_prior_and_the_likelihood(model: VQVAE) -> None:
    prior, n = Table(3, 2), 20_000
    maps = torch.tensor(list(itertools.product(range(3), repeat=2)))
    for table, p in ((prior, prior.log_prob(maps).exp()), (None, torch.full((9,), 1 / 9))):
        mean = (p[:, None, None, None] * model.decode(maps).mean).sum(0).detach()
        for noise_free in (True, False):
            drawn = model.sample(
                n, table, mean=noise_free, generator=torch.Generator().manual_seed(3)
            )
            error = drawn.std(0) / math.sqrt(n) + 1e-12
            assert ((drawn.mean(0) - mean).abs() < 5 * error).all()
    assert 0 < (drawn == 1).double().mean() < 1
    assert ((drawn == 0) | (drawn == 1)).all()


def test_usage_is_a_perplexity(model: VQVAE) -> None:
    codes = torch.tensor([0, 0, 0, 0, 1, 1, 2, 3])
    assert abs(perplexity(codes, 5) - 3.3635856610148585) < 1e-12  # 2^1.75
    assert perplexity(torch.arange(8).reshape(2, 4), 8) == pytest.approx(8)
    assert perplexity(torch.zeros(9, dtype=torch.long), 8) == pytest.approx(1)
    x = torch.rand(9, 1, 4, 8).round()
    assert model.usage(x) == perplexity(model.encode(x), 3)
    torch.testing.assert_close(model.reconstruct(x), model.decode(model.encode(x)).mean)
    assert isinstance(model, Bound)
    assert isinstance(model, Encodes)
    assert isinstance(model, Samples)


def test_what_is_drawn_and_shown_is_that_of_evaluation_mode_which_is_left_as_it_was() -> None:
    """With networks that drop features out; first the encoder is kept in evaluation mode."""
    model = VQVAE(shape=(1, 4, 8), codes=3, code_size=2, hidden=8)
    model.quantizer.codebook.normal_()
    model.encoder = nn.Sequential(model.encoder, nn.Dropout(0.5))
    model.decoder = nn.Sequential(nn.Dropout(0.5), model.decoder)
    x = torch.rand(6, 1, 4, 8).round()

    def results() -> tuple[Tensor, Tensor, float]:
        drawn = model.sample(4, mean=True, generator=torch.Generator().manual_seed(0))
        return drawn, model.reconstruct(x), model.usage(x)

    expected = model.eval() and results()
    model.train()
    model.encoder.eval()
    modes = [module.training for module in model.modules()]
    for found, value in zip(results(), expected, strict=True):
        assert torch.equal(torch.as_tensor(found), torch.as_tensor(value))
    assert [module.training for module in model.modules()] == modes
    model.train()
    assert torch.equal(model.reconstruct(x), expected[1])
    assert model.usage(x) == expected[2]


def test_a_prior_that_draws_nothing_is_refused(model: VQVAE) -> None:
    with pytest.raises(ValueError, match=r"generate\(tokens, n\) or sample\(n\).*Linear"):
        model.sample(2, nn.Linear(1, 1))


def test_codes_are_used_more_evenly_with_restarts() -> None:
    """Four clusters far apart and a codebook that starts in one of them."""
    centres = torch.tensor([[8.0, 8.0], [8.0, -8.0], [-8.0, 8.0], [-8.0, -8.0]])
    z = centres.repeat(50, 1) + 0.1 * torch.randn(200, 2)
    errors = []
    for restart in (0.0, 0.3):
        quantizer = VectorQuantizer(4, 2, decay=0.7, restart=restart)
        quantizer.codebook.copy_(torch.tensor([[9.0, 9.0], [7.0, 9.0], [9.0, 8.0], [8.0, 9.0]]))
        for _ in range(60):
            quantizer(z)
        k = quantizer.eval()(z).codes
        errors.append(
            (float(distances(z, quantizer.codebook).min(1).values.mean()), perplexity(k, 4))
        )
    (stuck, few), (free, many) = errors
    assert free < stuck / 10
    assert many > 3.5 > few


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (1, 30, 28)}, r"divisible by 4.*\(1, 30, 28\)"),
        ({"shape": (784,)}, r"\(c, h, w\).*\(784,\)"),
        ({"codes": 0}, "codes=0.*at least 1"),
        ({"code_size": 0}, "code_size=0.*at least 1"),
        ({"hidden": 1}, "hidden=1.*at least 2"),
        ({"beta": -1.0}, "beta must be at least 0"),
        ({"decay": 1.0}, r"decay must be in \[0, 1\).*1\.0"),
        ({"likelihood": "laplace"}, "'laplace'.*bernoulli"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VQVAE(**{"shape": (1, 8, 8), **arguments})


def test_wrong_data_are_named(model: VQVAE) -> None:
    x = torch.rand(2, 1, 4, 8)
    for method in (model.loss, model.encode, model.elbo):
        with pytest.raises(ValueError, match=r"\[0, 1\]"):
            method(x + 1)
        with pytest.raises(ValueError, match=r"\(n, 1, 4, 8\)"):
            method(x.mT)
    with pytest.raises(ValueError, match=r"between the 5 grey levels"):
        VQVAE(shape=(1, 4, 8), likelihood="logistic", levels=5).elbo(x)
    with pytest.raises(ValueError, match=r"got codes of shape \(2, 3\).*\(n, 1, 2\) or rows"):
        model.decode(torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(ValueError, match=r"codes from 0 to 3.*0 to 2.*prior"):
        model.decode(torch.tensor([[0, 3]]))
    with pytest.raises(ValueError, match=r"takes no labels"):
        model.elbo(x.round(), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match=r"vectors of size 3.*codes have 2"):
        model.quantizer(torch.randn(4, 3))
    with pytest.raises(ValueError, match=r"restart must be in \[0, 1\)"):
        VectorQuantizer(3, 2, restart=1.0)


@pytest.mark.parametrize("decay", [None, 0.9])
def test_other_devices_half_precision_and_gradients(decay: float | None) -> None:
    model = VQVAE(shape=(1, 8, 8), codes=4, code_size=4, hidden=8, decay=decay).float()
    x = torch.rand(4, 1, 8, 8).round().float()
    model.loss(x).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert p.grad.abs().sum() > 0, name
    model.eval()
    exact = model.loss(x)
    with torch.autocast("cpu", torch.bfloat16):
        z = model.encoder(x)
        rough = model.loss(x)
        k = model.encode(x)
    assert abs(float((rough - exact).detach())) < 0.05 * float(exact.detach()) + 1
    at = z.float().movedim(1, -1).flatten(0, -2)
    nearest = torch.cdist(at.double(), model.quantizer.codebook.double()).argmin(1)
    assert k.flatten().equal(nearest)  # in full precision in spite of autocast
    model, x = model.train().to("meta"), x.to("meta")
    model.loss(x).backward()
    assert model.elbo(x).device.type == "meta"
    assert model.sample(2).device.type == "meta"
