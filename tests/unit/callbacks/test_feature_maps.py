"""Tests of feature maps: layers, colors and their place on the page in any callback order."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from lightning.pytorch.strategies import FSDPStrategy, SingleDeviceStrategy
from sklearn.decomposition import PCA

from callbacks.feature_maps import (
    FeatureMaps,
    LayerActivations,
    principal_components,
    top_variance_channels,
)
from datamodules.errors import UserError
from datamodules.image_size import ImageSize
from datamodules.loading.letterbox import ContentBox
from lightning_modules.ensemble import Ensemble, first_network
from lightning_modules.networks.introspection import find_stage_layers, record_activations, to_chw
from lightning_modules.networks.upernet import UperNet
from tests.conftest import CALLBACKS, SMALL, refused

SWIN = {
    "image_size": 64,
    "embed_dim": 8,
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 1, 1],
    "window_size": 4,
}


def heard_of(net, layers=None):
    image = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), record_activations(net.eval(), layers or find_stage_layers(net)) as heard:
        net(image)
    return image, heard


@pytest.mark.parametrize("compiled", [False, True])
def test_the_stages_of_an_encoder_are_found_and_heard(compiled):
    net = smp.Unet(
        "resnet18",
        encoder_weights=None,
        encoder_depth=3,
        decoder_channels=(16, 8, 8),
        in_channels=1,
    )
    if compiled:  # before anyone listens: what is compiled knows no hook
        net.eval().compile(backend="eager")
        net(torch.zeros(1, 1, 64, 64))
    image, heard = heard_of(net)
    with torch.no_grad():
        stages = net.encoder(image)[1:]  # the first is the image itself
        fused = net.decoder([image, *stages])
    assert [torch.equal(a, b[0]) for a, b in zip(heard["stage"], stages, strict=True)] == [True] * 3
    assert (
        torch.equal(heard["fused"][0], fused[0])
        and len(heard) == 2
        and not any(module._forward_hooks for module in net.modules())
    )


def test_the_stages_of_a_upernet_and_its_fused_map_are_found():
    net = UperNet(SWIN, hidden_size=16)
    image, heard = heard_of(net)
    with torch.no_grad():
        stages = net.encoder(image).feature_maps
        logits = net.decode_head.classifier(heard["fused"][0][None])
        assert torch.allclose(
            torch.nn.functional.interpolate(logits, (64, 64), mode="bilinear"),
            net(image),
            atol=1e-5,
        )
    assert [tuple(map.shape) for map in heard["stage"]] == [
        (8, 16, 16),
        (16, 8, 8),
        (32, 4, 4),
        (64, 2, 2),
    ]
    assert all(torch.equal(a, b[0]) for a, b in zip(heard["stage"], stages, strict=True))


def test_layers_are_found_in_a_classifier_and_of_mirrored_views_the_first_is_heard():
    net = timm.create_model("tf_efficientnetv2_b0", in_chans=1, num_classes=1).eval()
    image, heard = heard_of(net)
    with torch.no_grad():
        last = net.forward_intermediates(image, intermediates_only=True)[-1]
        assert list(heard) == [f"stage {k}" for k in range(1, 6)] and torch.allclose(
            heard["stage 5"][0], last[0], atol=1e-5
        )
        several = SimpleNamespace(net=Ensemble([net], tta="hflip"))
        with record_activations(first_network(several.net), find_stage_layers(net)) as mirrored:
            several.net(image)
    assert first_network(several.net) is net and torch.equal(
        mirrored["stage 5"][0], heard["stage 5"][0]
    )


def test_the_layouts_of_an_output_give_one_map():
    map = torch.rand(6, 4, 4)
    tokens = map.flatten(1).T
    for each in (map, map.permute(1, 2, 0), tokens, torch.cat([torch.rand(1, 6), tokens])):
        assert torch.equal(to_chw(each), map)
    assert [to_chw(torch.rand(n, 6)) is None for n in (15, 24, 35)] == [
        False,
        False,
        True,
    ]  # 9 + 6, 16 + 8, 25 + 10 tokens


def test_components_are_scikit_learn_s_and_point_one_way():
    random = np.random.default_rng(0)
    cells = (
        random.normal(size=(400, 12)) * np.geomspace(5, 0.1, 12) @ random.normal(size=(12, 12)) + 3
    ).astype(np.float32)
    center, axes = principal_components(cells)
    reference = PCA(3, svd_solver="full").fit(cells.astype(np.float64))
    assert np.allclose(
        np.abs((reference.components_ * axes.T).sum(1)), 1, atol=1e-4
    ) and np.allclose(center, reference.mean_, atol=1e-4)
    assert (axes[np.abs(axes).argmax(0), range(3)] > 0).all()
    assert np.array_equal(principal_components(cells[::-1])[1] > 0, axes > 0)


def layer(padding: float) -> LayerActivations:
    """Two maps on a canvas of 32 pixels whose upper and lower quarter are padding."""
    maps = np.random.default_rng(0).normal(size=(2, 5, 8, 8)).astype(np.float32)
    maps[:, 3] *= 9
    maps[:, :, :2], maps[:, :, 6:] = padding, padding
    return LayerActivations(list(maps), ImageSize(32, 32), [ContentBox(8, 0, 16, 32)] * 2)


def test_colors_are_common_to_all_images_and_padding_does_not_count():
    plain, padded = layer(0.0), layer(1e6)
    cells = plain.flatten_cells()
    assert cells.shape == (2 * 4 * 8, 5) and np.array_equal(cells, padded.flatten_cells())
    assert (
        top_variance_channels(cells, 2)[0] == 3
        and top_variance_channels(cells, 9) == np.argsort(-cells.var(0)).tolist()
    )
    pictures = plain.components(cells)
    assert all(
        np.array_equal(a, b) for a, b in zip(pictures, padded.components(cells), strict=True)
    )
    red = np.concatenate([picture[2::4, 2::4, 0].ravel() for picture in pictures])
    center, axes = principal_components(cells)
    assert (
        pictures[0].shape == (16, 32, 3)
        and np.corrcoef(red, (cells - center) @ axes[:, 0])[0, 1] > 0.99
    )
    gray = [plain.channel(cells, 3)[i][2::4, 2::4].ravel() for i in (0, 1)]
    low, high = np.percentile(cells[:, 3], [1, 99])
    assert np.array_equal(
        np.concatenate(gray), (np.clip((cells[:, 3] - low) / (high - low), 0, 1) * 255).round()
    )


@pytest.mark.parametrize(
    ("words", "wrong", "mend"),
    [
        (
            "layers={a: encoder.layer9}",
            "encoder.layer9, which the network does not have",
            "did you mean encoder.layer4",
        ),
        (
            "layers={a: decoder.blocks}",
            "a list of layers without an output of its own",
            "decoder.blocks.x_0_0",
        ),
        ("layers={}", "names no layer", "write null"),
        ("ids=[test_nowhere]", "test_nowhere, which is not an image of test", "did you mean"),
        ("images=0", "images=0 is not allowed", "a whole number of 1 or more"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_training(words, wrong, mend, cli, steps, export):
    with_maps = CALLBACKS.replace("report]", "feature_maps,report]")
    code, said = cli(
        *SMALL[:-1], with_maps, f"datamodule.root={export}", f"callbacks.feature_maps.{words}"
    )
    refused(code, said, steps, wrong, mend)


def test_a_network_without_stages_says_which_names_it_has():
    with pytest.raises(UserError, match=r"finds no stages in Sequential.*names such as 0, 1"):
        find_stage_layers(torch.nn.Sequential(torch.nn.Conv2d(1, 1, 1), torch.nn.ReLU()))


def test_other_processes_and_shared_out_weights_do_nothing(tmp_path):
    for first, strategy in ((False, SingleDeviceStrategy()), (True, FSDPStrategy())):
        trainer = SimpleNamespace(is_global_zero=first, fast_dev_run=False, strategy=strategy)
        assert FeatureMaps(str(tmp_path)).section(trainer, None) is None


def test_the_page_and_the_folder_have_them_whatever_the_order(cli, export, tmp_path):
    after = CALLBACKS.replace("report]", "report,feature_maps]")
    words = [
        *SMALL[:-1],
        after,
        f"datamodule.root={export}",
        "callbacks.report.cases=1",
        "callbacks.feature_maps.images=3",
    ]
    code, said = cli(*words, "trainer.max_epochs=1", folder=tmp_path / "a")
    assert code == 0, said
    page = (tmp_path / "a/report.html").read_text(encoding="utf-8")
    cases = page.count("<figure data-case=")
    assert (
        2 <= cases <= 5
        and page.count("<img") == 4 * cases + 3 * 5
        and "64 channels, 32 × 32 cells" in page
        and "Left out" not in page
    )
    folders = sorted((tmp_path / "a/feature_maps").iterdir())
    names = [
        "fused",
        "fused_channels",
        "image",
        *(f"stage_{k}{more}" for k in (1, 2, 3) for more in ("", "_channels")),
    ]
    assert len(folders) == 3 and all(
        sorted(file.stem for file in folder.iterdir()) == names for folder in folders
    )
    stage = cv2.imread(str(folders[0] / "stage_3.png"))
    assert (
        stage.shape == (64, 64, 3)
        and np.array_equal(stage, stage[4::8, 4::8].repeat(8, 0).repeat(8, 1))
        and stage.std() > 20
    )
