"""Tests of ensembles against NumPy: mean probabilities, mirrored views and extreme logits."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightning_modules.ensemble import MAX_LOGIT, Ensemble, log_add_exp, log_sigmoid


class Fixed(nn.Module):
    """The same logits, whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, image):
        return self.logits


def lopsided(classes=2, seed=0):
    torch.manual_seed(seed)
    return nn.Conv2d(1, classes, (1, 3), padding=(0, 1))


def probability(logits):
    return 1 / (1 + np.exp(-logits.detach().numpy().astype(np.float64)))


def logit(p):
    return np.log(p / (1 - p))


def test_the_mean_of_probabilities_of_masks_and_their_mirrored_views():
    image, nets = torch.randn(2, 1, 5, 8), [lopsided(seed=seed) for seed in range(3)]
    views = [probability(net(image)) for net in nets]
    mirrored = [probability(net(image.flip(3)))[..., ::-1] for net in nets]
    assert Ensemble(nets)(image).detach().numpy() == pytest.approx(
        logit(np.mean(views, 0)), rel=1e-5, abs=1e-6
    )
    assert Ensemble(nets, tta="hflip")(image).detach().numpy() == pytest.approx(
        logit(np.mean(views + mirrored, 0)), rel=1e-5, abs=1e-6
    )


@pytest.mark.parametrize("members", [1, 2])
def test_what_it_says_of_the_mirrored_image_is_the_mirror_image(members):
    image, nets = torch.randn(2, 1, 6, 7), [lopsided(seed=seed) for seed in range(members)]
    both, plain = Ensemble(nets, tta="hflip"), Ensemble(nets)
    assert torch.allclose(both(image.flip(3)), both(image).flip(3), atol=1e-6)
    assert not torch.allclose(plain(image.flip(3)), plain(image).flip(3), atol=1e-2)


def test_labels_are_averaged_and_not_mirrored():
    torch.manual_seed(0)
    image, net = torch.randn(4, 1, 3, 3), nn.Sequential(nn.Flatten(), nn.Linear(9, 3))
    mean = (probability(net(image)) + probability(net(image.flip(3)))) / 2
    found = Ensemble([net], tta="hflip")(image)
    assert found.shape == (4, 3) and found.detach().numpy() == pytest.approx(
        logit(mean), rel=1e-5, abs=1e-6
    )


def test_one_member_is_that_network():
    image, net = torch.randn(2, 1, 4, 4), lopsided()
    assert torch.equal(Ensemble([net])(image), net(image))
    assert torch.allclose(Ensemble([net, net])(image), net(image), atol=1e-6)


def test_far_logits_stay_finite_and_exact():
    far = torch.tensor([[60.0, -60.0, 60.0, -300.0, torch.inf, -torch.inf, torch.inf, torch.inf]])
    other = torch.tensor([[58.0, -58.0, -60.0, -300.0, torch.inf, -torch.inf, -torch.inf, 2.0]])
    found = Ensemble([Fixed(far), Fixed(other)])(torch.zeros(1, 1, 2, 2))[0]
    by_hand = 58 - np.log((1 + np.exp(-2)) / 2)
    assert found[:4].tolist() == pytest.approx([by_hand, -by_hand, 0.0, -300.0], abs=1e-4)
    third = float(1 / (1 + np.exp(-2.0)))
    assert torch.isfinite(found).all() and found[4] > 1e30 and found[5] < -1e30 and found[6] == 0
    assert found[7].item() == pytest.approx(logit((1 + third) / 2), rel=1e-5)
    assert torch.isfinite(Ensemble([Fixed(far)])(torch.zeros(1, 1, 2, 2))).all()


def test_bf16_members_are_averaged_in_fp32():
    image, net = torch.randn(2, 1, 4, 4).bfloat16(), lopsided().bfloat16()
    found = Ensemble([net, net], tta="hflip")(image)
    views = [probability(net(image).float()), probability(net(image.flip(3)).float())[..., ::-1]]
    assert found.dtype == torch.float32 and found.detach().numpy() == pytest.approx(
        logit(np.mean(views, 0)), rel=1e-5, abs=1e-6
    )
    assert Ensemble([net])(image).dtype == torch.float32


def test_no_members_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        Ensemble([])


@pytest.mark.parametrize(("tta", "views"), [("flips", 4), ("turns", 8)])
def test_the_mean_over_views_is_that_of_arrays_turned_by_numpy(tta, views):
    net = nn.Conv2d(1, 2, 3, padding=1, bias=True)
    image = torch.rand(2, 1, 8, 8)
    found = []
    for turns in (0, 2) if tta == "flips" else range(4):
        for mirrored in (False, True):
            seen = np.rot90(image.numpy()[..., ::-1] if mirrored else image.numpy(), turns, (2, 3))
            answer = probability(net(torch.from_numpy(seen.copy())))
            back = np.rot90(answer, -turns, (2, 3))
            found.append(back[..., ::-1] if mirrored else back)
    assert len(found) == views
    together = probability(Ensemble([net], tta=tta)(image))
    assert together == pytest.approx(np.mean(found, 0), abs=1e-6)
    # all views of an image are those of the turned image, so that the answer turns with it
    turned = probability(Ensemble([net], tta=tta)(image.rot90(2, (2, 3))))
    assert turned == pytest.approx(np.rot90(together, 2, (2, 3)), abs=1e-6)


def test_the_logarithms_are_those_of_torch_and_finite_for_all_logits():
    logits = torch.cat([torch.linspace(-30, 30, 301), torch.tensor([-1e4, 1e4, MAX_LOGIT])])
    assert torch.allclose(log_sigmoid(logits), F.logsigmoid(logits), atol=2e-7)
    assert torch.isfinite(log_sigmoid(-logits)).all()
    logits = torch.cat([logits, torch.tensor([-torch.inf])])
    first, second = torch.meshgrid(logits, logits, indexing="ij")
    assert torch.allclose(log_add_exp(first, second), torch.logaddexp(first, second), atol=2e-7)
