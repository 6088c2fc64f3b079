"""Count the GPUs of this machine without PyTorch."""


def nvidia_gpus() -> int:
    """Return how many NVIDIA GPUs the driver knows, whatever torch or CUDA_VISIBLE_DEVICES say."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            return int(pynvml.nvmlDeviceGetCount())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no driver, no library: every way says none
        return 0
