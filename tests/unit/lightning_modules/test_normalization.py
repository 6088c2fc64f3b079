"""Tests of mean and std against each library's preprocessing, and of a checkpoint's effect."""

import copy
import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from hydra import compose, initialize_config_dir
from PIL import Image
from safetensors.torch import save_file

from datamodules.errors import UserError
from engine import run_summary
from engine.data_classes import set_known_classes
from lightning_modules import checkpoint_io, ensemble
from lightning_modules.instantiation import instantiate_config
from lightning_modules.library_imports import smp, timm
from lightning_modules.normalize import Normalize
from lightning_modules.pretrained.sources import UrlWeights
from run import CONF
from tests.unit.lightning_modules.networks.test_upernet import SWIN, of_library

SEGMENTATION, CLASSIFICATION = (
    "unetpp_brain_tumor",
    "pretrain_chest",
)  # where nothing is stated: .449 and .226, or .5 and .5
IMAGENET = {
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
    "input_space": "RGB",
    "input_range": [0, 1],
}
HALVES = IMAGENET | {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
DPN = IMAGENET | {"mean": [124 / 255, 117 / 255, 104 / 255], "std": [1 / (0.0167 * 255)] * 3}
LONG = IMAGENET | {
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "input_range": [0, 255],
}
TINY = [
    "module.net.hidden_size=16",
    *(f"module.net.backbone.{key}={value}" for key, value in SWIN.items()),
]


def module_of(experiment: str, *words: str):
    with initialize_config_dir(str(CONF)):
        cfg = compose("run", [f"experiment={experiment}", *words])
    return instantiate_config(cfg.module)


def numbers(module) -> tuple[list[float], list[float]]:
    return module.normalize.mean.flatten().tolist(), module.normalize.std.flatten().tolist()


def of_preprocessing(function) -> tuple[np.ndarray, np.ndarray]:
    """Return channel mean and std (pixels 0..1), from a library's output for black and white."""
    black, white = (function(Image.new("RGB", (400, 400), (gray,) * 3)) for gray in (0, 255))
    std = 1 / (white - black)
    return -black * std, std


def agrees(module, function, channels: int) -> None:
    """The numbers, and for RGB the normalized image itself."""
    theirs = of_preprocessing(function)
    expected = [values.mean(keepdims=True) if channels == 1 else values for values in theirs]
    for own, other in zip(numbers(module), expected, strict=True):
        assert own == pytest.approx(other.tolist(), rel=1e-5)
    color = (10, 130, 250)
    if channels == 3:
        image = torch.tensor(color, dtype=torch.uint8).view(1, 3, 1, 1)
        assert module.normalize(image).flatten().tolist() == pytest.approx(
            function(Image.new("RGB", (400, 400), color)).tolist(), rel=1e-4
        )


@pytest.fixture
def fetched(monkeypatch, tmp_path):
    """Replace the hub by random weights; smp's repositories hold the config put into `stated`."""
    stated = {}

    def download(source):
        if isinstance(source, UrlWeights):
            net = torchvision.models.get_model(source.file.rpartition("-")[0], weights=None)
            torch.save(net.state_dict(), tmp_path / source.file)
            return {source.file: tmp_path / source.file}, None
        owner, _, name = source.repo_id.partition("/")
        name = name.rpartition(".")[0]
        net = (
            timm.create_model(name)
            if owner == "timm"
            else smp.encoders.get_encoder(name, weights=None)
        )
        files = {name: tmp_path / name for name in ("model.safetensors", "config.json")}
        state = {key: value.clone().contiguous() for key, value in net.state_dict().items()}
        save_file(state, files["model.safetensors"])
        files["config.json"].write_text(json.dumps(stated.get("config", {})))
        return files, None

    monkeypatch.setattr("lightning_modules.pretrained.resolver.download", download)
    monkeypatch.setattr("lightning_modules.pretrained.sources.PACKAGES", {})
    monkeypatch.setattr("lightning_modules.pretrained.resolver.PACKAGES", {})

    def config_of_smp(repo_id, filename, **more):
        (tmp_path / "stated.json").write_text(json.dumps(stated["config"]))
        return str(tmp_path / "stated.json")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", config_of_smp)
    return stated


# ---- each library


@pytest.mark.parametrize(
    ("experiment", "architecture", "channels"),
    [
        ("preclassify_pnx", "tf_efficientnetv2_s", 1),
        ("preclassify_pnx", "tf_efficientnetv2_s", 3),
        (CLASSIFICATION, "resnet50", 1),
        (CLASSIFICATION, "resnet50", 3),
        (CLASSIFICATION, "dpn68", 3),
    ],
)
def test_weights_of_timm(experiment, architecture, channels, fetched):
    words = [f"module.net.encoder.name={architecture}", f"module.net.in_channels={channels}"]
    config = timm.data.resolve_data_config(
        {}, model=timm.create_model(architecture, pretrained=False)
    )
    transform = timm.data.create_transform(**config)
    agrees(module_of(experiment, *words), lambda image: transform(image)[:, 0, 0].numpy(), channels)


@pytest.mark.parametrize(
    ("encoder", "config", "channels"),
    [
        pytest.param("timm-efficientnet-b0", HALVES, 1, marks=pytest.mark.slow),
        ("timm-efficientnet-b0", HALVES, 3),
        ("inceptionv4", HALVES, 1),
        pytest.param("dpn68", DPN, 1, marks=pytest.mark.slow),
        ("dpn68", DPN, 3),
        ("resnet18", LONG | {"mean": [100.0, 116.28, 103.53]}, 1),
        ("resnet18", LONG, 3),
        pytest.param("tu-tf_efficientnet_lite0", None, 1, marks=pytest.mark.slow),
        ("tu-tf_efficientnet_lite0", None, 3),
        ("tu-resnet18", None, 3),
    ],
)
def test_weights_of_an_smp_encoder(encoder, config, channels, fetched):
    fetched["config"] = config
    words = [
        "module/net=unet",
        f"module.net.encoder.name={encoder}",
        f"module.net.in_channels={channels}",
    ]
    module = module_of(SEGMENTATION, *words)
    preprocess = smp.encoders.get_preprocessing_fn(encoder, "imagenet")
    agrees(module, lambda image: preprocess(np.asarray(image))[0, 0], channels)


def test_weights_of_resnet34_in_color_and_gray(fetched):
    fetched["config"] = IMAGENET
    preprocess = smp.encoders.get_preprocessing_fn("resnet34", "imagenet")
    agrees(
        module_of(SEGMENTATION, "module.net.in_channels=3"),
        lambda image: preprocess(np.asarray(image))[0, 0],
        3,
    )
    gray = module_of(SEGMENTATION)
    assert torch.equal(
        gray.normalize.mean, Normalize([0.449], [0.226]).mean
    )  # the published recipe keeps its numbers to the last bit
    assert torch.equal(gray.normalize.std, Normalize([0.449], [0.226]).std)
    assert gray.normalize.source == "ImageNet weights of resnet34, mean over channels"


@pytest.mark.parametrize("encoder", ["timm-mobilenetv3_small_100", "timm-resnest14d"])
def test_old_names_of_timm_encoders_have_the_numbers_of_the_model_that_is_built(encoder, fetched):
    module = module_of(
        SEGMENTATION,
        "module/net=unet",
        f"module.net.encoder.name={encoder}",
        "module.net.in_channels=3",
    )
    config = module.net.encoder.model.pretrained_cfg
    assert numbers(module) == (
        pytest.approx(list(config["mean"])),
        pytest.approx(list(config["std"])),
    )


@pytest.mark.parametrize(
    ("experiment", "architecture", "channels"),
    [
        (CLASSIFICATION, "efficientnet_v2_s", 1),
        (CLASSIFICATION, "efficientnet_v2_s", 3),
        pytest.param("preclassify_pnx", "efficientnet_v2_l", 1, marks=pytest.mark.slow),
        (CLASSIFICATION, "vit_b_32", 3),
    ],
)
def test_weights_of_torchvision(experiment, architecture, channels, fetched):
    from torchvision.models import get_model_weights

    words = [
        "module.net.library=torchvision",
        f"module.net.encoder.name={architecture}",
        f"module.net.in_channels={channels}",
    ]
    transform = get_model_weights(architecture).DEFAULT.transforms()
    agrees(module_of(experiment, *words), lambda image: transform(image)[:, 0, 0].numpy(), channels)


@pytest.fixture(scope="module")
def upernet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub") / "upernet"
    of_library().save_pretrained(folder)
    return folder


def preprocessor(folder: Path, **stated) -> list[str]:
    """Writes the file of an image processor; returns the words that name the folder."""
    (folder / "preprocessor_config.json").unlink(missing_ok=True)
    if stated:
        (folder / "preprocessor_config.json").write_text(
            json.dumps({"image_processor_type": "SegformerImageProcessor"} | stated)
        )
    return ["module/net=upernet_swin", *TINY, f"module.net.weights={folder}"]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "stated",
    [
        {"image_mean": [0.1, 0.3, 0.2], "image_std": [0.4, 0.5, 0.7]},
        {"image_processor_type": "ViTImageProcessor"},
        {"do_normalize": False, "image_mean": [0.1, 0.3, 0.2]},
    ],
)
def test_weights_of_transformers(stated, channels, upernet):
    from transformers import AutoImageProcessor

    module = module_of(
        SEGMENTATION, *preprocessor(upernet, **stated), f"module.net.in_channels={channels}"
    )
    processor = AutoImageProcessor.from_pretrained(upernet)
    agrees(
        module,
        lambda image: processor(images=image, return_tensors="np")["pixel_values"][0, :, 0, 0],
        channels,
    )


# ---- where nothing is stated


def test_a_folder_or_file_that_states_nothing_has_the_numbers_from_scratch(upernet, tmp_path):
    assert numbers(module_of(SEGMENTATION, *preprocessor(upernet))) == (
        pytest.approx([0.449]),
        pytest.approx([0.226]),
    )
    torch.save(timm.create_model("resnet18", pretrained=False).state_dict(), tmp_path / "w.pt")
    words = ["module.net.encoder.name=resnet18", f"module.net.encoder.weights={tmp_path / 'w.pt'}"]
    assert numbers(module_of(CLASSIFICATION, *words)) == ([0.5], [0.5])
    other = module_of(CLASSIFICATION, *words, "module.scratch_normalization={mean:[0.2],std:[0.3]}")
    assert (
        numbers(other) == (pytest.approx([0.2]), pytest.approx([0.3]))
        and other.normalize.source == "module.scratch_normalization"
    )


@pytest.mark.parametrize(
    ("given", "expected"), [("[0.2]", ([0.2], [0.3])), ("null", ([0.0], [1.0]))]
)
def test_numbers_that_are_given_are_those_in_force(given, expected, fetched):
    std = "[0.3]" if given != "null" else "null"
    module = module_of(
        CLASSIFICATION,
        "module.net.encoder.name=resnet18",
        f"module.mean={given}",
        f"module.std={std}",
    )
    assert numbers(module) == (pytest.approx(expected[0]), pytest.approx(expected[1]))


# today's numbers of every experiment from scratch: mean, std, gamma
GRAY, HALF, SCINTIGRAM = (0.449, 0.226, 1.0), (0.5, 0.5, 1.0), (0.1, 0.12, 0.5)
FULL = {
    **dict.fromkeys(
        [
            "curriculum_pnx",
            "preclassify_pnx",
            "pseudo_mask_bone_scan",
            "segmentation",
            "unetpp_brain_tumor",
            "upernet_chestx_det",
        ],
        GRAY,
    ),
    **dict.fromkeys(["upernet_pnx", "weak_bone_scan"], GRAY),
    **dict.fromkeys(
        ["classification", "linear_probe_pneumonia", "lora_pneumonia", "pretrain_chest"], HALF
    ),
}
SCALED = {("full", name): numbers for name, numbers in FULL.items()}
SCALED |= {
    ("demo", name): numbers
    for name, numbers in (
        FULL | dict.fromkeys(["weak_bone_scan", "pseudo_mask_bone_scan"], SCINTIGRAM)
    ).items()
}
SCALED |= {("full", "demo"): GRAY}


def test_the_table_below_has_every_experiment():
    assert {name for _, name in SCALED} == {
        path.stem for path in (CONF / "experiment").glob("*.yaml")
    }


@pytest.mark.parametrize(
    ("scale", "experiment"),
    [pytest.param(*case, marks=[pytest.mark.slow] * (case[0] == "full")) for case in SCALED],
)
def test_an_experiment_from_scratch_has_the_numbers_it_always_had(scale, experiment):
    with initialize_config_dir(str(CONF)):
        cfg = compose("run", [f"experiment={experiment}", f"scale={scale}"])
    set_known_classes(cfg, {"classes": ["finding"]})
    net = cfg.module.net
    for part in (net, net.get("encoder") or {}):
        if "weights" in part:
            part.weights = None
    if "backbone" in net:
        net.backbone, net.hidden_size = SWIN, 16
    mean, std, gamma = SCALED[scale, experiment]
    normalize = instantiate_config(cfg.module).normalize
    expected = Normalize([mean], [std], gamma)
    assert (
        torch.equal(normalize.mean, expected.mean)
        and torch.equal(normalize.std, expected.std)
        and normalize.gamma == gamma
    )


# ---- refusals

REFUSED = {
    "one alone": (
        ["module.mean=[0.2]"],
        IMAGENET,
        "module.mean=[0.2] module.std=auto mixes auto with given numbers; set both to auto",
    ),
    "another word": (
        ["module.mean=imagenet"],
        IMAGENET,
        "module.mean=imagenet is not allowed; it must be a list of numbers, or auto, or null",
    ),
    "gamma": (
        ["module.gamma=0.5"],
        IMAGENET,
        (
            "cannot be combined with module.mean=auto, because pretrained weights expect"
            " gamma 1 .*resnet18.*=1"
        ),
    ),
    "other channels": (
        ["module.net.in_channels=2"],
        IMAGENET,
        "ImageNet weights of resnet18 have 3 channels, but .*in_channels=2; give numbers for",
    ),
    "other range": (
        [],
        IMAGENET | {"input_range": [-1, 1]},
        "expect pixels in -1..1, and only 0..1 and 0..255 can be converted; give numbers for",
    ),
    "other order": (
        ["module.net.in_channels=3"],
        IMAGENET | {"input_space": "BGR"},
        "expect BGR channels, and images are RGB; give numbers for",
    ),
    "nothing stated": (
        [],
        {"input_space": "RGB"},
        (
            r"smp does not state the mean and std of the ImageNet weights of resnet18 \('mean'\);"
            r" give numbers for"
        ),
    ),
}
UNET = ["module/net=unet", "module.net.encoder.name=resnet18"]


@pytest.mark.parametrize("name", REFUSED)
def test_numbers_that_cannot_be_resolved_are_refused(name, fetched):
    words, fetched["config"], sentence = REFUSED[name]
    pattern = sentence.replace("[0.2]", r"\[0\.2\]") if name == "one alone" else sentence
    with pytest.raises(UserError, match=pattern):
        module_of(SEGMENTATION, *UNET, *words)
    if name not in ("one alone", "another word"):
        assert numbers(
            module_of(SEGMENTATION, *UNET, *words, "module.mean=[0.2]", "module.std=[0.3]")
        )[0] == pytest.approx([0.2])


@pytest.mark.parametrize("stated", [{"rescale_factor": 1 / 127.5}, {"do_rescale": False}])
def test_weights_of_other_pixel_units_are_refused(stated, upernet):
    with pytest.raises(
        UserError,
        match=(
            r"do_rescale=(true|false) rescale_factor=0\.\d+, and pixels are divided by 255 here;"
            r" give numbers"
        ),
    ):
        module_of(SEGMENTATION, *preprocessor(upernet, **stated))


def test_gamma_goes_with_numbers_from_scratch():
    module = module_of(SEGMENTATION, *UNET, "module.net.encoder.weights=null", "module.gamma=0.5")
    assert numbers(module) == (pytest.approx([0.449]), pytest.approx([0.226]))


# ---- copies and checkpoints


@pytest.fixture
def colored(fetched, tmp_path):
    """A module with three numbers of pretrained weights, and its checkpoint."""
    fetched["config"] = DPN
    module = module_of(SEGMENTATION, *UNET, "module.net.in_channels=3")
    torch.save({"state_dict": module.state_dict()}, tmp_path / "dpn.ckpt")
    return module, tmp_path / "dpn.ckpt"


@pytest.mark.slow
def test_copies_keep_the_statistics_and_a_checkpoint_does_not_hold_them(colored):
    module, path = colored
    net = module.net
    assert net.statistics.mean == pytest.approx(DPN["mean"])
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert other.statistics == net.statistics
    compiled = copy.deepcopy(net)
    compiled.compile()
    assert compiled.statistics == net.statistics
    stored = torch.load(path, weights_only=True)["state_dict"]
    assert (
        not [name for name in stored if "statistics" in name]
        and {"normalize.mean", "normalize.std"} < stored.keys()
    )
    assert module.normalize.as_dict() == {
        "mean": pytest.approx(DPN["mean"]),
        "std": pytest.approx(DPN["std"]),
        "gamma": 1.0,
        "source": "ImageNet weights of resnet18",
    }
    assert (
        run_summary.describe_normalization(module, None)
        == "mean 0.486275 0.458824 0.407843, std 0.234824 0.234824 0.234824 (ImageNet weights of"
        " resnet18)"
    )


def scratch(*words: str):
    return module_of(
        SEGMENTATION, *UNET, "module.net.in_channels=3", "module.net.encoder.weights=null", *words
    )


@pytest.mark.parametrize("way", ["init_from", "ckpt_path", "members"])
def test_auto_takes_the_numbers_of_a_checkpoint_in_any_count(way, colored):
    trained_module, path = colored
    module = scratch()
    assert len(numbers(module)[0]) == 1
    if way == "init_from":
        assert checkpoint_io.load_weights(module, path)
    else:
        checkpoint_io.check_compatible(module, checkpoint_io.read_checkpoint(path), path)
        module.load_state_dict(checkpoint_io.read_checkpoint(path)["state_dict"])
    if way == "members":
        assert len(ensemble.load_members(module, [path, path], "")) == 2
    assert (
        numbers(module) == numbers(trained_module)
        and module.normalize.source == "stored in the checkpoint"
    )
    image = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(module.eval()(image), trained_module.eval()(image))
    again = copy.deepcopy(module)
    again.load_state_dict(module.state_dict())
    assert numbers(again) == numbers(trained_module)


OTHER = ["module.mean=[0.449]", "module.std=[0.226]"]


def test_given_numbers_that_a_checkpoint_would_replace_are_refused(colored):
    _, path = colored
    said = (
        r"dpn\.ckpt was trained with module\.mean=\[0\.486275,0\.458824,0\.407843\] .*, but this"
        r" run has module\.mean=\[0\.449\] .*; set (module\.mean=.*)"
    )
    module = scratch(*OTHER)
    with pytest.raises(UserError, match=said) as refusal:
        checkpoint_io.load_weights(module, path)
    with pytest.raises(UserError, match=said):
        checkpoint_io.check_compatible(module, checkpoint_io.read_checkpoint(path), path)
    assert numbers(module) == (pytest.approx([0.449]), pytest.approx([0.226]))
    mend = re.search(r"; set (module\.mean=\S+) (module\.std=\S+)$", str(refusal.value))
    assert checkpoint_io.load_weights(
        scratch(*mend.groups()), path
    )  # the words of the sentence are the cure


def test_an_adapted_network_takes_the_numbers_of_its_backbone(fetched, tmp_path):
    lora = ["module.net.encoder.name=resnet18", "module.net.in_channels=3"]
    from_weights = module_of("lora_pneumonia", *lora)
    assert (
        numbers(from_weights)[0] == pytest.approx([0.485, 0.456, 0.406])
        and from_weights.net.statistics == from_weights.net.net.statistics
    )
    plain = module_of(
        "preclassify_pnx",
        "module.net.encoder.name=resnet18",
        "module.net.in_channels=3",
        "module.mean=[0.2]",
        "module.std=[0.3]",
    )
    torch.save({"state_dict": plain.state_dict()}, tmp_path / "plain.ckpt")
    adapted = module_of("lora_pneumonia", *lora, "module.net.encoder.weights=null")
    for module in (adapted, from_weights):
        assert not checkpoint_io.load_weights(module, tmp_path / "plain.ckpt")
        assert numbers(module) == numbers(plain)
    given = module_of(
        "lora_pneumonia",
        *lora,
        "module.net.encoder.weights=null",
        "module.mean=[0.5]",
        "module.std=[0.5]",
    )
    with pytest.raises(
        UserError,
        match=(
            r"was trained with module\.mean=\[0\.2\] module\.std=\[0\.3\], but this run has"
            r" module\.mean=\[0\.5\]"
        ),
    ):
        checkpoint_io.load_weights(given, tmp_path / "plain.ckpt")


def test_members_of_an_ensemble_with_other_numbers_are_refused_as_before(colored, tmp_path):
    module, path = colored
    state = module.state_dict() | {"normalize.mean": torch.full((1, 1, 1, 1), 0.449)}
    torch.save({"state_dict": state}, tmp_path / "other.ckpt")
    for own in (
        module,
        scratch("module.mean=[0.486275,0.458824,0.407843]", "module.std=[0.234824]"),
    ):
        own.load_state_dict(module.state_dict())
        with pytest.raises(
            UserError,
            match=(r"other\.ckpt was trained with another module\.mean than the others"),
        ):
            ensemble.load_members(own, [path, tmp_path / "other.ckpt"], "")


def test_the_plan_names_the_numbers_of_a_checkpoint(colored):
    _, path = colored
    said = run_summary.describe_normalization(scratch(), path)
    assert (
        said == "mean 0.486275 0.458824 0.407843, std 0.234824 0.234824 0.234824 (stored in the"
        " checkpoint)"
    )
    assert (
        run_summary.describe_normalization(scratch(), None)
        == "mean 0.449, std 0.226 (module.scratch_normalization)"
    )
