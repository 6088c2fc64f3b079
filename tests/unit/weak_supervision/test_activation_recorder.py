"""Tests of making maps during the ordinary forward pass, which leaves the network unchanged."""

import numpy as np
import pytest
import timm
import torch
from lightning import LightningModule, Trainer
from torch import nn

from datamodules.errors import UserError
from weak_supervision.cam import ClassActivationMaps, compute_cam, scale_to_unit_range


def state_of(net: nn.Module) -> list:
    tensors = [tensor.clone() for tensor in net.state_dict().values()]
    return [
        tensors,
        [p.requires_grad for p in net.parameters()],
        [m.training for m in net.modules()],
        [p.grad for p in net.parameters()],
    ]


def same(a: list, b: list) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a[0], b[0], strict=True)) and a[1:] == b[1:]


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_nothing_of_the_network_is_changed(images, recording, fails):
    net = timm.create_model("resnet10t", in_chans=1, num_classes=1)
    net.layer1.requires_grad_(False)
    net.layer2.eval()
    before = state_of(net)
    with torch.set_grad_enabled(recording):
        if fails:
            with (
                pytest.raises(RuntimeError, match="channels"),
                ClassActivationMaps().recording(net) as listener,
            ):
                try:
                    net(torch.rand(1, 3, 64, 64))
                finally:
                    assert torch.is_grad_enabled() is recording
        else:
            with ClassActivationMaps().recording(net) as listener:
                logits = net(images)
                assert (
                    torch.is_grad_enabled() is recording
                    and not logits.requires_grad
                    and not net.training
                )
                listener.compute()
            with torch.no_grad():
                assert torch.equal(logits, net.eval()(images))
            net.train()
            net.layer2.eval()
        assert torch.is_grad_enabled() is recording
    assert same(before, state_of(net)) and not any(
        m._forward_hooks or m._forward_pre_hooks for m in net.modules()
    )


def test_the_part_before_the_layer_records_no_graph(net, images):
    with ClassActivationMaps().recording(net) as listener:
        net(images)
        graph, operations = [listener._logits.grad_fn], []
        while graph:
            node = graph.pop()
            operations.append(node.name())
            graph += [following for following, _ in node.next_functions if following is not None]
    assert (
        not [name for name in operations if "Conv" in name or "BatchNorm" in name]
        and "ToCopyBackward0" in operations
    )


def test_a_layer_whose_output_is_worked_on_in_place(images):
    """The library's own activations are overwritten then, on a CPU: `cpu()` copies nothing."""

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, 2, 1),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 1),
    )
    _, heat = compute_cam(ClassActivationMaps("HiResCAM", "0"), net, images)
    with torch.no_grad():
        before = net[0](images)
        slope = net[4].weight[0, :, None, None] / before[0, 0].numel() * (before > 0)
    assert np.allclose(heat, scale_to_unit_range((before * slope).sum(1).numpy()), atol=1e-5)


def test_small_gradients_survive_float16():
    net = nn.Sequential(
        nn.Conv2d(1, 4, 1), nn.AvgPool2d((64, 32)), nn.Flatten(), nn.Linear(4, 1)
    ).eval()
    nn.init.constant_(net[0].weight, 1.0)
    nn.init.constant_(net[0].bias, 0.0)
    nn.init.constant_(net[3].weight, 3e-5)  # divided by 2048 cells: below the smallest float16
    image = torch.rand(1, 1, 64, 32)
    with torch.autocast("cpu", torch.float16):
        _, heat = compute_cam(ClassActivationMaps("HiResCAM", "0"), net, image)
    assert np.allclose(heat[0], image[0, 0] / image.max(), atol=2e-3)


def test_a_compiled_network_is_heard(images):
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 4, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    ).eval()
    _, plain = compute_cam(ClassActivationMaps(layers="1"), net, images)
    net.compile(backend="eager")
    with torch.no_grad():  # before anyone listens: what is compiled knows no hook
        net(images)
        assert (
            np.array_equal(compute_cam(ClassActivationMaps(layers="1"), net, images)[1], plain)
            and plain.any()
        )


class Predicting(LightningModule):
    def __init__(self, net, maps):
        super().__init__()
        self.net, self.maps, self.heat = net, maps, []

    def predict_step(self, batch, batch_idx):
        return self.net(batch).float()

    def on_predict_batch_end(self, outputs, batch, batch_idx, dataloader_idx=0):
        self.heat.append(self.listener.compute())


def predict(module, images, **more):
    quiet = {
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "accelerator": "cpu",
    }
    loader = torch.utils.data.DataLoader(images, 2)
    with module.maps.recording(module.net) as module.listener:
        return torch.cat(Trainer(**quiet, **more).predict(module, loader))


def test_lightning_predicts_and_maps_in_one_forward(net, images):
    module = Predicting(net, ClassActivationMaps())
    forwards = []
    counting = net.conv1.register_forward_hook(lambda *_: forwards.append(1))
    logits = predict(module, images, inference_mode=False)
    counting.remove()
    assert len(forwards) == 2 and torch.allclose(logits, net(images).detach(), atol=1e-5)
    assert np.allclose(
        np.concatenate(module.heat), compute_cam(ClassActivationMaps(), net, images)[1], atol=1e-4
    )


def test_inference_mode_is_refused_where_gradients_are_needed(net, images):
    with pytest.raises(
        UserError, match=r"GradCAM needs gradients.*set trainer\.inference_mode=false"
    ):
        predict(Predicting(net, ClassActivationMaps()), images, inference_mode=True)
    assert torch.is_grad_enabled()
    module = Predicting(net, ClassActivationMaps("EigenCAM"))
    predict(module, images, inference_mode=True)
    assert np.allclose(
        np.concatenate(module.heat),
        compute_cam(ClassActivationMaps("EigenCAM"), net, images)[1],
        atol=1e-4,
    )


def test_a_layer_off_the_way_a_missing_channel_and_a_second_asking_are_refused(net, images):
    aside = nn.Sequential(net, nn.Identity())
    aside.forward = net.forward
    with pytest.raises(UserError, match="names 1, which the network does not pass"):
        compute_cam(ClassActivationMaps(layers="1"), aside, images)
    with pytest.raises(UserError, match="channel 3 is none of the network's 3 logits"):
        compute_cam(ClassActivationMaps(), net, images, channel=3)
    with ClassActivationMaps().recording(net) as listener:
        net(images)
        listener.compute()
        with pytest.raises(RuntimeError, match="belongs to one forward"):
            listener.compute()
