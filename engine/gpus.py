"""Number of GPUs of this machine, counted without PyTorch."""


def nvidia_gpus() -> int:
    """Return the number of NVIDIA GPUs of the driver, independent of CUDA_VISIBLE_DEVICES."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            return int(pynvml.nvmlDeviceGetCount())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no driver or no library: there is no GPU to count
        return 0
