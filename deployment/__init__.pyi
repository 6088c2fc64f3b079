from .inference import InferencePipeline, Prediction
from .predictor import Predictor

__all__ = ["InferencePipeline", "Prediction", "Predictor"]
