"""Which class heat maps are made of, and whether they can be made at all; asked before any training."""

from lightning import LightningModule, Trainer

from callbacks.pseudo_labels.grad_cam import ClassActivationMaps
from callbacks.pseudo_labels.masks import CONFIG_KEY
from datamodules.refusal import UserError
from lightning_modules.classification import ClassificationModule


def resolve_cam_target(
    trainer: Trainer,
    module: LightningModule,
    heat_maps: ClassActivationMaps,
    target_class: str | None,
) -> tuple[int, str]:
    """Channel and name of the class.

    Args:
        trainer: Of the run.
        module: What is to be mapped.
        heat_maps: Of which method and layers.
        target_class: The class that the user asks for; None is the first.

    Raises:
        Refusal: no classifier, no such class or layer, or gradients under inference mode.
    """
    if not isinstance(module, ClassificationModule):
        raise UserError(
            f"{CONFIG_KEY} maps what a classifier saw; take it out of callbacks=[...] for a module of"
            " masks"
        )
    if target_class is not None and target_class not in module.classes:
        raise UserError(
            f"{CONFIG_KEY}.target_class={target_class} is none of module.classes={list(module.classes)}; take one of them"
        )
    if trainer.predict_loop.inference_mode and heat_maps.needs_gradients:
        said = (
            f"{CONFIG_KEY}.heat_maps.method={heat_maps.method} needs gradients, which inference mode"
            " forbids"
        )
        raise UserError(f"{said}; set trainer.inference_mode=false")
    with heat_maps.recording(module.net):  # looks for the layers
        name = target_class or module.classes[0]
    return module.classes.index(name), name
