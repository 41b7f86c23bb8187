"""DAT: Vision Transformer with Deformable Attention (Xia et al., CVPR 2022, arXiv 2201.00520).

Importing this package registers the backbone ``DAT``. A config that names it says
``custom_imports = dict(imports=["projects.dat"])``.
"""

from . import backbone, pretrained  # noqa: F401
