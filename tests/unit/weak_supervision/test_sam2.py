"""Tests of SAM 2 against the transformers processor and model, with tiny random weights."""

import numpy as np
import pytest
import torch
from transformers import (
    Sam2Config,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
    Sam2VideoConfig,
    Sam2VideoModel,
    SwinConfig,
    SwinModel,
)

from datamodules.errors import UserError
from weak_supervision.segmenters.base import box_to_slices
from weak_supervision.segmenters.sam2 import SAM2Segmenter

SIDE = 64
HIERA = {
    "model_type": "sam2_hiera_det_model",
    "hidden_size": 8,
    "image_size": [SIDE, SIDE],
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 1, 2, 2],
    "window_size_per_stage": [4, 4, 4, 2],
    "global_attention_blocks": [3],
    "window_positional_embedding_background_size": [4, 4],
}
VISION = {
    "model_type": "sam2_vision_model",
    "backbone_config": HIERA,
    "backbone_channel_list": [64, 32, 16, 8],
    "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    "fpn_hidden_size": 32,
}
TINY = {
    "vision_config": VISION,
    "prompt_encoder_config": {"hidden_size": 32, "image_size": SIDE, "mask_input_channels": 4},
    "mask_decoder_config": {
        "hidden_size": 32,
        "mlp_dim": 16,
        "num_attention_heads": 2,
        "iou_head_hidden_dim": 16,
    },
}
HEIGHT, WIDTH = 120, 45
BOXES = np.array([[3.0, 10, 30, 60], [10.5, 50.25, 44, 90], [0, 0, WIDTH, HEIGHT]])
POINTS = np.array([[15.0, 30], [20, 70], [22, 60]])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Save a model and its processor as on the hub; weights are large so that prompts matter."""
    place = tmp_path_factory.mktemp("sam2")
    torch.manual_seed(0)
    model = Sam2Model(Sam2Config(**TINY))
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.3)
    model.save_pretrained(place)
    processor().save_pretrained(place)
    return place


def processor() -> Sam2Processor:
    return Sam2Processor(
        Sam2ImageProcessor(
            size={"height": SIDE, "width": SIDE}, mask_size={"height": 16, "width": 16}
        )
    )


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH), dtype=np.uint8)


class Heard:
    """Keeps what the model is given and gives."""

    def __init__(self, model):
        self.given, self.output = [], []
        model.register_forward_hook(self._keep, with_kwargs=True)

    def _keep(self, module, positional, named, output):
        self.given.append(named)
        self.output.append(output)


@pytest.mark.parametrize("boxes", [BOXES[:1], BOXES])
@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("peaks", [False, True])
def test_prompts_and_masks_are_the_processors_own_on_an_image_that_is_not_square(
    folder, image, boxes, multimask, peaks
):
    segmenter = SAM2Segmenter(str(folder), device="cpu", multimask=multimask, peaks=peaks)
    heard, points = Heard(segmenter.model), POINTS[: len(boxes)]
    found = segmenter(image, boxes, points)

    prompts = {"input_boxes": [boxes.tolist()]}
    if peaks:
        prompts |= {
            "input_points": [[[point] for point in points.tolist()]],
            "input_labels": [[[1] for _ in points]],
        }
    theirs = processor()(images=np.stack([image] * 3, -1), return_tensors="pt", **prompts)
    (given,), (output,) = heard.given, heard.output  # one forward
    assert torch.equal(given["pixel_values"], theirs["pixel_values"]) and given[
        "pixel_values"
    ].shape == (1, 3, SIDE, SIDE)
    assert (
        torch.equal(given["input_boxes"], theirs["input_boxes"])
        and ("input_points" in given) == peaks
    )
    scaled = boxes * np.tile([SIDE / WIDTH, SIDE / HEIGHT], 2)
    np.testing.assert_allclose(given["input_boxes"][0].numpy(), scaled, rtol=1e-5)
    if peaks:
        assert (
            torch.equal(given["input_points"], theirs["input_points"])
            and (given["input_labels"] == 1).all()
        )

    assert output.pred_masks.shape[:3] == (1, len(boxes), 3 if multimask else 1)
    raw = (
        processor().post_process_masks(output.pred_masks, theirs["original_sizes"])[0].numpy()
    )  # boxes x masks x H x W
    best = output.iou_scores[0].argmax(-1).tolist()
    assert (
        found.masks.shape == (len(boxes), HEIGHT, WIDTH)
        and found.masks.dtype == bool
        and found.masks.any()
    )
    for i, box in enumerate(boxes):
        inside = np.zeros((HEIGHT, WIDTH), bool)
        inside[box_to_slices(box, inside.shape)] = True
        assert (found.masks[i] == (raw[i, best[i]] & inside)).all()
        assert found.scores[i] == (
            output.iou_scores[0, i, best[i]].item() if found.masks[i].any() else 0
        )


def test_a_margin_lets_the_mask_leave_its_box(folder, image):
    free, tight = (
        SAM2Segmenter(str(folder), device="cpu", margin=10),
        SAM2Segmenter(str(folder), device="cpu"),
    )
    heard = Heard(free.model)
    found, confined = free(image, BOXES[:2], POINTS[:2]), tight(image, BOXES[:2], POINTS[:2])
    raw = (
        processor()
        .post_process_masks(heard.output[0].pred_masks, [[HEIGHT, WIDTH]])[0][:, 0]
        .numpy()
    )
    assert (
        (found.masks == raw).all()
        and confined.masks.sum() < found.masks.sum()
        and not (confined.masks & ~found.masks).any()
    )


def test_a_box_is_masked_alike_alone_and_with_others(folder, image):
    segmenter = SAM2Segmenter(str(folder), device="cpu")
    together = segmenter(image, BOXES, POINTS)
    for i in range(3):
        alone = segmenter(image, BOXES[i : i + 1], POINTS[i : i + 1])
        assert np.mean(alone.masks[0] == together.masks[i]) > 0.999  # other sums, other last bits
        np.testing.assert_allclose(alone.scores[0], together.scores[i], atol=1e-5)


def test_no_boxes_cost_no_forward(folder, image):
    segmenter = SAM2Segmenter(str(folder), device="cpu")
    heard = Heard(segmenter.model)
    found = segmenter(image, np.zeros((0, 4)), np.zeros((0, 2)))
    assert (
        found.masks.shape == (0, HEIGHT, WIDTH) and found.scores.shape == (0,) and not heard.given
    )


def test_autocast_is_as_given_whatever_surrounds_it(folder, image):
    types = []
    for precision in (None, "bf16"):
        segmenter = SAM2Segmenter(str(folder), device="cpu", autocast=precision)
        segmenter.model.mask_decoder.transformer.layers[0].mlp.register_forward_hook(
            lambda module, given, output: types.append(output.dtype)
        )
        with torch.autocast("cpu", torch.bfloat16):
            found = segmenter(image, BOXES, POINTS)
        assert found.scores.dtype == np.float32
    assert types == [torch.float32, torch.bfloat16]


def test_a_checkpoint_of_the_video_model_gives_the_image_model(tmp_path, image):
    torch.manual_seed(1)
    parts = {
        key: value | ({"model_type": f"sam2_video_{key[:-7]}"} if key != "vision_config" else {})
        for key, value in TINY.items()
    }
    whole = Sam2VideoModel(Sam2VideoConfig(**parts))
    whole.save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    own, theirs = SAM2Segmenter(str(tmp_path), device="cpu").model.state_dict(), whole.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in own.items())


def test_what_is_no_sam2_is_refused_with_the_mend(folder, tmp_path):
    key = r"callbacks\.pseudo_labels\.segmenter\.weights"
    with pytest.raises(
        UserError,
        match=(
            rf"{key}=nobody/nothing: the weights of SAM 2 are not on this machine, and cannot be"
            rf" fetched.*name a folder with {key}=PATH.*RandomWalker"
        ),
    ):
        SAM2Segmenter("nobody/nothing", device="cpu")
    with pytest.raises(UserError, match=rf"{key}=.*nowhere is not a folder; name a folder with"):
        SAM2Segmenter(str(tmp_path / "nowhere"), device="cpu")
    with pytest.raises(
        UserError, match=r"a folder without config\.json .*holds no weights.*save_pretrained"
    ):
        SAM2Segmenter(str(tmp_path), device="cpu")
    Sam2Model(Sam2Config(**TINY)).save_pretrained(tmp_path / "bare")
    with pytest.raises(UserError, match=r"bare: no SAM 2 can be read .*processor_config\.json"):
        SAM2Segmenter(str(tmp_path / "bare"), device="cpu")
    SwinModel(SwinConfig(embed_dim=8, depths=[1], num_heads=[1])).save_pretrained(tmp_path / "swin")
    with pytest.raises(UserError, match="swin is a swin and no SAM 2"):
        SAM2Segmenter(str(tmp_path / "swin"), device="cpu")


def test_damaged_or_incomplete_weights_are_refused(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    for name in ("config.json", "processor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"cannot be read as weights \(the file is damaged"):
        SAM2Segmenter(str(tmp_path), device="cpu")
    state = load_file(folder / "model.safetensors")
    lacking = next(name for name in state if name.startswith("mask_decoder"))
    save_file(
        {name: value for name, value in state.items() if name != lacking},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(
        UserError, match=rf"lacks 1 of the model's weights \(the first is {lacking}\)"
    ):
        SAM2Segmenter(str(tmp_path), device="cpu")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"autocast": "int4"}, r"autocast=int4 is not allowed; it must be bf16 or fp16, or null"),
        ({"device": "toaster"}, "device=toaster is not a device"),
        ({"device": "cuda:99"}, r"device=cuda:99 is not here"),
        ({"margin": -1}, "margin=-1 is not allowed; it must be a number from 0 to 10"),
    ],
)
def test_impossible_arguments_are_refused_before_weights_are_read(arguments, said):
    with pytest.raises(UserError, match=said):
        SAM2Segmenter("nobody/nothing", **arguments)
