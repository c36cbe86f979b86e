"""One convolution, standard and depthwise separable: Howard et al., arXiv 1704.04861, Section 3.1 and Table 3.

By default a 5x5 convolution from 12x12x3 to 8x8x256. Standard: Dk*Dk*M*N parameters. Separable: Dk*Dk*M + M*N.
Multiply-adds are those times the output's size.
"""

from __future__ import annotations

from torch import nn

ROOFLINE = {
    "standard_conv": {
        "make": "standard_conv",
        "inputs": {"x": [1, 3, 12, 12]},
        "about": "a 5x5 convolution, 12x12x3 to 8x8x256",
        "paper": "Howard et al. 2017, arXiv 1704.04861, Section 3.1",
    },
    "separable_conv": {
        "make": "separable_conv",
        "inputs": {"x": [1, 3, 12, 12]},
        "about": "the same as a depthwise and a pointwise convolution",
        "paper": "Howard et al. 2017, arXiv 1704.04861, Section 3.1",
    },
    "standard_conv_3x3": {
        "make": "standard_conv",
        "inputs": {"x": [1, 512, 14, 14]},
        "args": {"cin": 512, "cout": 512, "kernel": 3, "padding": 1},
        "about": "a 3x3 convolution, 14x14x512 to 14x14x512",
        "paper": "Howard et al. 2017, arXiv 1704.04861, Table 3",
    },
    "separable_conv_3x3": {
        "make": "separable_conv",
        "inputs": {"x": [1, 512, 14, 14]},
        "args": {"cin": 512, "cout": 512, "kernel": 3, "padding": 1},
        "about": "the same as a depthwise and a pointwise convolution",
        "paper": "Howard et al. 2017, arXiv 1704.04861, Table 3",
    },
}


def standard_conv(cin: int = 3, cout: int = 256, kernel: int = 5, padding: int = 0) -> nn.Conv2d:
    """[n, cin, h, w] -> [n, cout, h', w'] in one convolution without bias."""
    return nn.Conv2d(cin, cout, kernel, padding=padding, bias=False)


def separable_conv(cin: int = 3, cout: int = 256, kernel: int = 5, padding: int = 0) -> nn.Sequential:
    """[n, cin, h, w] -> [n, cout, h', w']: a depthwise convolution that filters, a pointwise one that combines."""
    depthwise = nn.Conv2d(cin, cin, kernel, padding=padding, groups=cin, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(cin, cout, 1, bias=False))
