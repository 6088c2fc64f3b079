"""Predictor: from an image to masks or labels, by a run's network or by a bundle."""

from collections.abc import Sequence
from pathlib import Path

from deployment.inference import InferencePipeline


class Predictor(InferencePipeline):
    """Predictor of images by the network of a run (PyTorch) or of a bundle (onnxruntime).

    Example:
        >>> predict = Predictor.from_run("runs/demo/2026-11-01_10-00-00")  # doctest: +SKIP
        >>> result = predict("film.dcm")  # doctest: +SKIP
        >>> result.probability, result.boxes  # doctest: +SKIP
        ({'tumor': 0.93}, [LesionBox(name='tumor', x1=40, y1=61, x2=75, y2=90, area=712)])
    """

    @classmethod
    def from_run(
        cls,
        run: str | Path,
        checkpoint: str = "best",
        device: str = "cpu",
        code: Sequence[str] = (),
        min_component: int = 0,
    ) -> "Predictor":
        """Make a predictor from a run folder, in fp32; nothing else than the folder is read.

        The networks of a run or multirun of folds become an ensemble, which averages their
        probabilities; its rule is searched on their out-of-fold evidence.

        Args:
            run: Run folder.
            checkpoint: `best` or `last`.
            device: Device of PyTorch, such as `cpu` or `cuda`.
            code: Modules of your own that the run's configuration may name; see the key `code`.
            min_component: Connected components of a mask with fewer pixels are removed.

        Raises:
            UserError: The folder is no run whose network can be used.
        """
        from deployment.trained_network import load_trained_network
        from lightning_modules.hardware import set_tensor_float_32

        trained = load_trained_network(run, checkpoint, code)
        trained.module.to(device)
        if trained.module.device.type == "cuda":
            set_tensor_float_32(False)  # otherwise a GPU rounds the factors of each product
        return cls(trained.predict_logits, trained.preprocessing, trained.decision, min_component)

    @classmethod
    def from_bundle(
        cls, bundle: str | Path, min_component: int = 0, threads: int | None = None
    ) -> "Predictor":
        """Make a predictor from a bundle, which do=bundle wrote.

        Args:
            bundle: Folder of the bundle.
            min_component: Connected components of a mask with fewer pixels are removed.
            threads: Threads of onnxruntime; None for one per core.

        Raises:
            UserError: The folder is no bundle, was changed, or onnxruntime is not installed.
        """
        from deployment.bundle_reader import open_bundle

        found = open_bundle(Path(bundle).expanduser(), threads)
        return cls(found.network, found.preprocessing, found.decision, min_component)
