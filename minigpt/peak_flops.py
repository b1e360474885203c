"""How well a training uses its device: what a token takes in arithmetic, and what the device could do at most.

Model FLOPs utilisation (MFU; Chowdhery et al. 2022, "PaLM", appendix B) is tokens per second × FLOPs per token ÷ peak.
Needs no torch.
"""

import re

from minigpt.config import ModelConfig

_CUDA = re.compile(r"(?:NVIDIA |Tesla )*(?P<model>.+)")

# Dense peaks in TFLOP/s: float32 outside of the tensor cores, which torch leaves alone unless TF32 is asked for, then
# half precision in them with sums in float32, which is what training does. Data sheets print the double, with
# sparsity, for half precision from Ampere on. Models that were sold with several sets of units are left out: better no
# figure than a wrong one. Parts of a GPU (MIG) and laptops, whose clocks depend on the maker, are left out as well.
_TENSOR = {
    # NVIDIA HGX B200 data sheet: a board of eight, 600 TFLOP/s and 36 PFLOP/s with sparsity
    "B200": (75.0, 2250.0),
    # NVIDIA H100 data sheet: SXM, PCIe and NVL
    "H100 80GB HBM3": (66.9, 989.4),
    "H100 PCIe": (51.2, 756.5),
    "H100 NVL": (60.0, 835.5),
    # NVIDIA H200 data sheet: SXM and NVL
    "H200": (66.9, 989.4),
    "H200 NVL": (60.0, 835.5),
    # NVIDIA GH200 data sheet: the H100 of the superchip
    "GH200 480GB": (66.9, 989.4),
    "GH200 120GB": (66.9, 989.4),
    # NVIDIA A100 data sheet: the same for SXM and PCIe, 40 and 80 GB
    "A100-SXM4-40GB": (19.5, 312.0),
    "A100-SXM4-80GB": (19.5, 312.0),
    "A100-PCIE-40GB": (19.5, 312.0),
    "A100 80GB PCIe": (19.5, 312.0),
    # NVIDIA A30, A10, A40 and A2 data sheets; A10G: the one that NVIDIA and AWS published for EC2 G5
    "A30": (10.3, 165.0),
    "A10": (31.2, 125.0),
    "A10G": (35.0, 70.0),
    "A40": (37.4, 149.7),
    "A2": (4.5, 18.0),
    # NVIDIA L4, L40 and L40S data sheets
    "L4": (30.3, 121.0),
    "L40": (90.5, 181.0),
    "L40S": (91.6, 362.0),
    # NVIDIA RTX A-series data sheets and Ampere GA102 whitepaper, appendix
    "RTX A6000": (38.7, 154.8),
    "RTX A5000": (27.8, 111.1),
    "RTX A4000": (19.2, 76.7),
    # NVIDIA Ada and RTX Blackwell PRO whitepapers, appendices
    "RTX 6000 Ada Generation": (91.1, 364.2),
    "RTX PRO 6000 Blackwell Workstation Edition": (126.0, 503.8),
}

# The same for devices that have no bf16: compute capability below 8.0.
_TENSOR_WITHOUT_BF16 = {
    # NVIDIA T4 data sheet
    "T4": (8.1, 65.0),
    # NVIDIA V100 data sheet: SXM2 and SXM3, PCIe, and V100S
    "V100-SXM2-16GB": (15.7, 125.0),
    "V100-SXM2-32GB": (15.7, 125.0),
    "V100-SXM3-32GB": (15.7, 125.0),
    "V100-PCIE-16GB": (14.0, 112.0),
    "V100-PCIE-32GB": (14.0, 112.0),
    "V100S-PCIE-32GB": (16.4, 130.0),
    # NVIDIA Turing whitepaper, appendix: TU102 for professionals, whose sums in float32 are not slowed down
    "TITAN RTX": (16.3, 130.5),
    "Quadro RTX 6000": (16.3, 130.5),
    "Quadro RTX 8000": (16.3, 130.5),
}

# GeForce by CUDA cores and boost clock in MHz, as NVIDIA's product pages list them for the reference cards. A core does
# a fused multiply-add per clock, so float32 is 2 × cores × clock. The tensor cores of a GeForce sum in float32 at half
# their speed, which makes half precision twice the float32 of the shaders on Ampere, Ada and Blackwell, and four times
# on Turing, which had half as many shaders: so the whitepapers' appendices ("FP16 tensor with FP32 accumulate").
_GEFORCE = {
    "RTX 3060": (3584, 1777),
    "RTX 3060 Ti": (4864, 1665),
    "RTX 3070": (5888, 1725),
    "RTX 3070 Ti": (6144, 1770),
    "RTX 3080": (8704, 1710),  # that of 12 GB, which has the same name, has 3% more
    "RTX 3080 Ti": (10240, 1665),
    "RTX 3090": (10496, 1695),
    "RTX 3090 Ti": (10752, 1860),
    "RTX 4060": (3072, 2460),
    "RTX 4060 Ti": (4352, 2535),
    "RTX 4070": (5888, 2475),
    "RTX 4070 SUPER": (7168, 2475),
    "RTX 4070 Ti": (7680, 2610),
    "RTX 4070 Ti SUPER": (8448, 2610),
    "RTX 4080": (9728, 2505),
    "RTX 4080 SUPER": (10240, 2550),
    "RTX 4090": (16384, 2520),
    "RTX 5050": (2560, 2572),
    "RTX 5060": (3840, 2497),
    "RTX 5060 Ti": (4608, 2572),
    "RTX 5070": (6144, 2512),
    "RTX 5070 Ti": (8960, 2452),
    "RTX 5080": (10752, 2617),
    "RTX 5090": (21760, 2407),
}
_GEFORCE_TURING = {
    "RTX 2060": (1920, 1680),
    "RTX 2060 SUPER": (2176, 1650),
    "RTX 2070": (2304, 1620),
    "RTX 2070 SUPER": (2560, 1770),
    "RTX 2080": (2944, 1710),
    "RTX 2080 SUPER": (3072, 1815),
    "RTX 2080 Ti": (4352, 1545),
}


def peak_flops(device_name: str, precision: str) -> float | None:
    """The most that a GPU of this name, as CUDA tells it, does in dense matrix products, in FLOP/s; None if unknown.

    `precision` is float32, bf16 or fp16. A CPU has no entry: its peak depends on its clock and on what it is beside.
    """
    match = _CUDA.fullmatch(device_name)
    model = match["model"] if match else device_name
    half, has_bf16 = None, True
    if model in _TENSOR:
        single, half = _TENSOR[model]
    elif model in _TENSOR_WITHOUT_BF16:
        (single, half), has_bf16 = _TENSOR_WITHOUT_BF16[model], False
    elif (geforce := model.removeprefix("GeForce ")) in _GEFORCE:
        single = _of_shaders(*_GEFORCE[geforce])
        half = 2 * single
    elif geforce in _GEFORCE_TURING:
        single, has_bf16 = _of_shaders(*_GEFORCE_TURING[geforce]), False
        half = 4 * single
    else:
        return None
    match precision:
        case "float32":
            return single * 1e12
        case "fp16":
            return half * 1e12
        case "bf16" if has_bf16:
            return half * 1e12
    return None


def _of_shaders(cores: int, megahertz: int) -> float:
    return 2 * cores * megahertz / 1e6


def flops_per_token(config: ModelConfig, vocab_size: int, parameters: int) -> int:
    """What training on one token takes in matrix products, forward and backward, with a full context.

    6 N + 12 L C T, as in PaLM's appendix B and nanoGPT's `estimate_mfu`: two operations for each of N weights forward
    and four backward, and the attention's products of L layers of width C over T positions. N are the `parameters`
    that are multiplied with: looking up an embedding is none, but a token embedding that is the output head as well
    counts. Like there, the attention is counted in full, although causal attention could leave half of it out.
    """
    looked_up = config.block_size * config.n_embd if config.positions == "learned" else 0
    if not config.tie_weights:
        looked_up += vocab_size * config.n_embd
    return 6 * (parameters - looked_up) + 12 * config.n_layer * config.n_embd * config.block_size
