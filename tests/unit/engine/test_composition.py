"""Tests of a run's composition: data sets that replace an experiment's own, and debugging runs."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from datamodules.errors import UserError
from engine.composition import (
    check_chosen_encoder,
    compose_run,
    composed_run,
    remove_foreign_encoder,
    remove_foreign_keys,
)
from run import CONF


def keys_of(words, tmp_path) -> set[str]:
    with composed_run(compose_run(words), words, tmp_path / "run") as cfg:
        remove_foreign_keys(cfg)
        return set(map(str, cfg.datamodule))


FOREIGN = {
    "weak_bone_scan": {"view", "true_masks"},
    "pseudo_mask_bone_scan": {"manifest_name"},
    "curriculum_pnx": {"patients"},
    "lora_pneumonia": set(),
}


@pytest.mark.parametrize("experiment", FOREIGN)
def test_another_data_set_gets_no_key_of_the_experiments_own(experiment, tmp_path):
    words = [f"experiment={experiment}", "scale=demo"]
    own = keys_of(words, tmp_path)
    assert FOREIGN[experiment] <= own
    with initialize_config_dir(str(CONF)):
        folder = set(map(str, compose("datamodule/folder").datamodule))
    assert not FOREIGN[experiment] & folder
    assert keys_of([*words, "datamodule=folder", "datamodule.root=x"], tmp_path) == folder


@pytest.mark.parametrize(
    ("word", "mend"),
    [("datamodule.view=ANT", "leave it out"), ("datamodule.true_masks=x", "leave it out")],
)
def test_a_key_that_the_chosen_data_set_lacks_is_refused_on_the_command_line(word, mend, tmp_path):
    with pytest.raises(UserError, match=r"datamodule\.\w+ is not a key of datamodule=f") as told:
        words = ["experiment=weak_bone_scan", "scale=demo", "datamodule=folder", word]
        keys_of(words, tmp_path)
    assert mend in str(told.value)


def test_averaged_weights_are_one_word():
    with initialize_config_dir(str(CONF)):
        cfg = compose("run", ["experiment=upernet_pnx", "extra=ema"])
    assert cfg.callbacks.ema._target_ == "callbacks.EMAWeightAverage"
    assert "early_stopping" in cfg.callbacks and "threshold_search" in cfg.callbacks


def test_an_encoder_that_the_scale_replaces_is_refused_and_not_ignored(tmp_path):
    def check(*words):
        composed = compose_run(list(words))
        with composed_run(composed, list(words), tmp_path / "run") as cfg:
            check_chosen_encoder(cfg)
            return cfg.module.net.encoder.name

    assert check("experiment=segmentation", "module/net/encoder=lite1").endswith("lite1")
    with pytest.raises(UserError, match=r"has no effect.*module\.net\.encoder\.name=tf_.*lite1 "):
        check("experiment=demo", "module/net/encoder=lite1")
    words = ["module/net/encoder=lite1", "module.net.encoder.name=resnet34"]
    assert check("experiment=demo", *words) == "resnet34"


def test_a_network_with_its_own_backbone_takes_the_place_of_one_with_an_encoder(tmp_path):
    def net_of(*words):
        composed = compose_run(list(words))
        with composed_run(composed, list(words), tmp_path / "run") as cfg:
            remove_foreign_encoder(cfg)
            return OmegaConf.to_container(cfg.module.net, resolve=False)

    words = ["experiment=segmentation", "module/net=upernet_swin"]
    assert set(net_of(*words)) == set(net_of("experiment=upernet_pnx"))
    assert "encoder" in net_of("experiment=segmentation")
    for own in ("module/net/encoder=lite1", "module.net.encoder.weights=null"):
        with pytest.raises(UserError, match=r"is not possible.*a backbone of its own; leave it"):
            net_of(*words, own)
