"""Networks. Add one as a file here, named in `__init__.pyi` and in conf/module/net/NAME.yaml."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
