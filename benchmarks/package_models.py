"""The models of packages.py: "package model" -> how it is built, and its call, each made when asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple


class Made(NamedTuple):
    """How a model is built, and its call made: (arguments, keywords)."""

    build: Callable[[], Any]
    call: Callable[[], tuple[tuple[Any, ...], dict[str, Any]]]


MODELS: dict[str, Made] = {}


def model(name: str, build: Callable[[], Any], *args: Callable[[], Any], **kwargs: Callable[[], Any]) -> None:
    """`name` is "package model"; what makes each argument stands for it, since packages and tensors are made when asked for."""
    MODELS[name] = Made(build, lambda: (tuple(a() for a in args), {k: v() for k, v in kwargs.items()}))


def of(path: str, *args: Any, **kwargs: Any) -> Callable[[], Any]:
    """What calls "module:name" with these."""
    module, _, name = path.partition(":")

    def made() -> Any:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found(*args, **kwargs)

    return made


def floats(*shape: int) -> Callable[[], Any]:
    return of("torch:rand", *shape)


def whole(high: int, *shape: int) -> Callable[[], Any]:
    return of("torch:randint", 0, high, shape)


def value(it: Any) -> Callable[[], Any]:
    return lambda: it


# ------------------------------------------------------------------------------------------------ diffusers

_D = "diffusers"
model(
    "diffusers UNet2DModel",
    of(f"{_D}:UNet2DModel", sample_size=64, block_out_channels=(64, 128, 128, 256), layers_per_block=2),
    floats(1, 3, 64, 64),
    value(10),
)
model(
    "diffusers UNet2DConditionModel",
    of(
        f"{_D}:UNet2DConditionModel",
        sample_size=32,
        block_out_channels=(64, 128, 128, 128),
        cross_attention_dim=64,
        norm_num_groups=32,
    ),
    floats(2, 4, 32, 32),
    value(1),
    encoder_hidden_states=floats(2, 77, 64),
)
model(
    "diffusers UNet2DConditionModel (tensor timestep)",
    of(f"{_D}:UNet2DConditionModel", sample_size=32, block_out_channels=(64, 128, 128, 128), cross_attention_dim=64),
    floats(2, 4, 32, 32),
    whole(1000, 2),
    encoder_hidden_states=floats(2, 77, 64),
)
model(
    "diffusers AutoencoderKL",
    of(
        f"{_D}:AutoencoderKL",
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    ),
    floats(1, 3, 64, 64),
)
model(
    "diffusers VQModel",
    of(
        f"{_D}:VQModel",
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    ),
    floats(1, 3, 32, 32),
)
model(
    "diffusers DiTTransformer2DModel",
    of(
        f"{_D}:DiTTransformer2DModel", num_attention_heads=4, attention_head_dim=32, num_layers=4, sample_size=32, in_channels=4
    ),
    floats(1, 4, 32, 32),
    timestep=whole(1000, 1),
    class_labels=whole(1000, 1),
)
model(
    "diffusers SD3Transformer2DModel",
    of(
        f"{_D}:SD3Transformer2DModel",
        sample_size=32,
        num_layers=2,
        attention_head_dim=16,
        num_attention_heads=4,
        joint_attention_dim=64,
        caption_projection_dim=64,
        pooled_projection_dim=64,
        pos_embed_max_size=32,
    ),
    floats(1, 16, 32, 32),
    encoder_hidden_states=floats(1, 77, 64),
    pooled_projections=floats(1, 64),
    timestep=whole(1000, 1),
)
model(
    "diffusers FluxTransformer2DModel",
    of(
        f"{_D}:FluxTransformer2DModel",
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=64,
        pooled_projection_dim=64,
        axes_dims_rope=(8, 12, 12),
        guidance_embeds=True,
    ),
    floats(1, 256, 64),
    encoder_hidden_states=floats(1, 77, 64),
    pooled_projections=floats(1, 64),
    timestep=floats(1),
    img_ids=floats(256, 3),
    txt_ids=floats(77, 3),
    guidance=floats(1),
)
model(
    "diffusers PixArtTransformer2DModel",
    of(
        f"{_D}:PixArtTransformer2DModel",
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=4,
        cross_attention_dim=128,
        sample_size=32,
        caption_channels=64,
        use_additional_conditions=False,
    ),
    floats(1, 4, 32, 32),
    encoder_hidden_states=floats(1, 20, 64),
    timestep=whole(1000, 1),
    added_cond_kwargs=value({"resolution": None, "aspect_ratio": None}),
)
model(
    "diffusers UNet1DModel",
    of(
        f"{_D}:UNet1DModel",
        sample_size=64,
        in_channels=2,
        out_channels=2,
        block_out_channels=(32, 32, 64),
        extra_in_channels=64,
    ),
    floats(1, 2, 64),
    value(3),
)
model(
    "diffusers ControlNetModel",
    of(f"{_D}:ControlNetModel", block_out_channels=(64, 128, 128, 128), cross_attention_dim=64),
    floats(1, 4, 32, 32),
    value(1),
    encoder_hidden_states=floats(1, 77, 64),
    controlnet_cond=floats(1, 3, 256, 256),
)
model(
    "diffusers MotionAdapter UNet3D",
    of(
        f"{_D}:UNet3DConditionModel",
        sample_size=16,
        block_out_channels=(32, 64, 64, 64),
        cross_attention_dim=64,
        attention_head_dim=8,
    ),
    floats(1, 4, 4, 16, 16),
    value(1),
    encoder_hidden_states=floats(1, 7, 64),
)
model(
    "diffusers CogVideoXTransformer3DModel",
    of(
        f"{_D}:CogVideoXTransformer3DModel",
        num_attention_heads=4,
        attention_head_dim=16,
        num_layers=2,
        sample_width=16,
        sample_height=16,
        sample_frames=9,
        text_embed_dim=32,
        max_text_seq_length=16,
    ),
    floats(1, 3, 16, 16, 16),
    encoder_hidden_states=floats(1, 16, 32),
    timestep=whole(1000, 1),
)
model(
    "diffusers Transformer2DModel",
    of(
        f"{_D}:Transformer2DModel",
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=32,
        num_layers=1,
        cross_attention_dim=32,
    ),
    floats(1, 32, 16, 16),
    encoder_hidden_states=floats(1, 7, 32),
)
model("diffusers AutoencoderTiny", of(f"{_D}:AutoencoderTiny"), floats(1, 3, 64, 64))
model(
    "diffusers AutoencoderDC",
    of(
        f"{_D}:AutoencoderDC",
        encoder_block_out_channels=(32, 64),
        decoder_block_out_channels=(32, 64),
        encoder_layers_per_block=(1, 1),
        decoder_layers_per_block=(1, 1),
        encoder_block_types=("ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "EfficientViTBlock"),
        encoder_qkv_multiscales=((), (5,)),
        decoder_qkv_multiscales=((), (5,)),
        attention_head_dim=8,
        latent_channels=4,
    ),
    floats(1, 3, 32, 32),
)

# ------------------------------------------------------------------------------------------------ PyTorch Geometric


def edges(nodes: int = 500, count: int = 3000) -> Callable[[], Any]:
    return whole(nodes, 2, count)


_G, _N = "torch_geometric.nn", "package_nets"
for _name, _more in (
    ("GCN", {}),
    ("GraphSAGE", {}),
    ("GIN", {}),
    ("GAT", {"heads": 4}),
    ("GAT v2", {"v2": True, "heads": 4}),
    ("EdgeCNN", {}),
):
    model(
        f"torch_geometric {_name}",
        of(f"{_G}:{_name.partition(' ')[0]}", 64, 128, 3, out_channels=10, **_more),
        floats(500, 64),
        edges(),
    )
model("torch_geometric PNA", of(f"{_N}:pna"), floats(500, 64), edges())
model("torch_geometric GCN edge weights", of(f"{_G}:GCN", 64, 128, 2), floats(500, 64), edges(), edge_weight=floats(3000))
model("torch_geometric graph classifier", of(f"{_N}:GraphNet"), floats(500, 64), edges(), of(f"{_N}:batches"))
model("torch_geometric PointNet++", of(f"{_N}:PointNet"), floats(512, 3), of(f"{_N}:batches", 512))
model("torch_geometric GraphUNet", of(f"{_G}:GraphUNet", 64, 64, 10, depth=3), floats(500, 64), edges())
model("torch_geometric HeteroConv", of(f"{_N}:Hetero"), of(f"{_N}:hetero"), of(f"{_N}:hetero_edges"))
model("torch_geometric TransformerConv", of(f"{_G}:TransformerConv", 64, 32, heads=4), floats(500, 64), edges())
model("torch_geometric RGCNConv", of(f"{_G}:RGCNConv", 64, 64, 5), floats(500, 64), edges(), whole(5, 3000))
model("torch_geometric LightGCN", of(f"{_G}:LightGCN", 500, 64, 2), edges())
model("torch_geometric GCN on Data", of(f"{_N}:OnData"), of(f"{_N}:data"))
model("torch_geometric GAE", of(f"{_N}:gae"), floats(500, 64), edges())

# ------------------------------------------------------------------------------------------------ speech and sound

model("openai-whisper tiny", of(f"{_N}:whisper"), floats(1, 80, 3000), whole(50000, 1, 20))
model("openai-whisper encoder", of("whisper.model:AudioEncoder", 80, 1500, 384, 6, 4), floats(1, 80, 3000))

_A = "torchaudio.models"
model("torchaudio Conformer", of(f"{_A}:Conformer", 80, 4, 128, 2, 31), floats(2, 100, 80), of("torch:tensor", [100, 80]))
model("torchaudio wav2vec2_base", of(f"{_A}:wav2vec2_base"), floats(1, 16000))
model("torchaudio wav2vec2_base with lengths", of(f"{_A}:wav2vec2_base"), floats(2, 16000), of("torch:tensor", [16000, 12000]))
model("torchaudio hubert_base", of(f"{_A}:hubert_base"), floats(1, 16000))
model("torchaudio ConvTasNet", of(f"{_A}:ConvTasNet"), floats(1, 1, 16000))
model("torchaudio DeepSpeech", of(f"{_A}:DeepSpeech", 80), floats(1, 1, 100, 80))
model(
    "torchaudio Emformer",
    of(f"{_A}:Emformer", 80, 4, 256, 2, 16, right_context_length=4),
    floats(1, 36, 80),
    of("torch:tensor", [32]),
)
model("torchaudio HDemucs", of(f"{_A}:hdemucs_low", ["drums", "bass"]), floats(1, 2, 44100))
model("torchaudio MelSpectrogram", of("torchaudio.transforms:MelSpectrogram", 16000), floats(1, 16000))
model("torchaudio MFCC", of("torchaudio.transforms:MFCC", 16000), floats(1, 16000))
model(
    "torchaudio RNN-T",
    of(f"{_A}:emformer_rnnt_base", 100),
    floats(1, 36, 80),
    of("torch:tensor", [36], dtype=None),
    whole(99, 1, 10),
    of("torch:tensor", [10]),
)
model("torchaudio HDemucs", of(f"{_A}:hdemucs_low", ["drums", "bass"]), floats(1, 2, 44100))
model(
    "torchaudio Tacotron2",
    of(f"{_A}:Tacotron2"),
    whole(100, 2, 30),
    of("torch:tensor", [30, 20]),
    floats(2, 80, 50),
    of("torch:tensor", [50, 40]),
)
model(
    "torchaudio WaveRNN",
    of(f"{_A}:WaveRNN", upsample_scales=[5, 5, 8], n_classes=512, hop_length=200, n_rnn=128, n_fc=128),
    floats(1, 1, 1200),
    floats(1, 1, 128, 10),
)
model("torchaudio MelSpectrogram", of("torchaudio.transforms:MelSpectrogram", 16000), floats(1, 16000))
model("torchaudio MFCC", of("torchaudio.transforms:MFCC", 16000), floats(1, 16000))

_S = "speechbrain.lobes.models"
model("speechbrain ECAPA_TDNN", of(f"{_S}.ECAPA_TDNN:ECAPA_TDNN", 80, lin_neurons=192), floats(2, 100, 80))
model(
    "speechbrain ECAPA_TDNN with lengths",
    of(f"{_S}.ECAPA_TDNN:ECAPA_TDNN", 80, lin_neurons=192),
    floats(2, 100, 80),
    of("torch:tensor", [1.0, 0.7]),
)
model("speechbrain Xvector", of(f"{_S}.Xvector:Xvector", in_channels=80), floats(2, 100, 80))
model("speechbrain CRDNN", of(f"{_S}.CRDNN:CRDNN", input_shape=[None, None, 80]), floats(2, 100, 80))
_ASR = {
    "tgt_vocab": 100,
    "input_size": 80,
    "d_model": 64,
    "nhead": 4,
    "num_encoder_layers": 2,
    "num_decoder_layers": 2,
    "d_ffn": 128,
}
model(
    "speechbrain TransformerASR",
    of(
        f"{_S}.transformer.TransformerASR:TransformerASR",
        **_ASR,
    ),
    floats(2, 50, 80),
    whole(99, 2, 12),
    of("torch:tensor", [1.0, 0.8]),
)
model(
    "speechbrain Conformer ASR",
    of(
        f"{_S}.transformer.TransformerASR:TransformerASR",
        **_ASR,
        encoder_module="conformer",
        attention_type="RelPosMHAXL",
        normalize_before=True,
        causal=False,
    ),
    floats(2, 50, 80),
    whole(99, 2, 12),
    of("torch:tensor", [1.0, 0.8]),
)
model(
    "speechbrain LSTM",
    of("speechbrain.nnet.RNN:LSTM", hidden_size=64, input_shape=[2, 50, 40], num_layers=2, bidirectional=True),
    floats(2, 50, 40),
    lengths=of("torch:tensor", [1.0, 0.6]),
)
model("speechbrain Fbank", of("speechbrain.lobes.features:Fbank"), floats(2, 16000))
model("speechbrain SepFormer", of("package_nets:sepformer"), floats(1, 64, 200))


# ------------------------------------------------------------------------------------------------ vision

model("kornia KeyNet", of("kornia.feature:KeyNet", False), floats(1, 1, 64, 64))
model("kornia HardNet", of("kornia.feature:HardNet", False), floats(16, 1, 32, 32))
model("kornia LoFTR", of("kornia.feature:LoFTR", None), of("package_nets:pair"))
model("kornia DISK", of("kornia.feature:DISK"), floats(1, 3, 64, 64))
model("kornia HyNet", of("kornia.feature:HyNet", False), floats(16, 1, 32, 32))
model("kornia SOSNet", of("kornia.feature:SOSNet", False), floats(16, 1, 32, 32))
model("kornia TinyViT", of("kornia.contrib:TinyViT"), floats(1, 3, 224, 224))
model("kornia augmentation", of("package_nets:augmentation"), floats(4, 3, 64, 64))
model("kornia SIFT", of("kornia.feature:SIFTDescriptor", 32), floats(16, 1, 32, 32))
model("kornia Canny", of("kornia.filters:Canny"), floats(1, 3, 64, 64))


for _name in ("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3", "DeepLabV3Plus", "UPerNet"):
    model(
        f"segmentation-models-pytorch {_name}",
        of(f"segmentation_models_pytorch:{_name}", "resnet34", encoder_weights=None),
        floats(1, 3, 128, 128),
    )
model(
    "segmentation-models-pytorch Segformer",
    of("segmentation_models_pytorch:Segformer", "mit_b0", encoder_weights=None),
    floats(1, 3, 128, 128),
)
model(
    "segmentation-models-pytorch DPT",
    of("segmentation_models_pytorch:DPT", "tu-vit_tiny_patch16_224", encoder_weights=None),
    floats(1, 3, 224, 224),
)
model(
    "segmentation-models-pytorch Unet class head",
    of("segmentation_models_pytorch:Unet", "timm-mobilenetv3_small_100", encoder_weights=None, aux_params={"classes": 4}),
    floats(1, 3, 128, 128),
)

_U = "ultralytics.nn.tasks"
for _name, _class in (
    ("yolov8n", "DetectionModel"),
    ("yolov5n", "DetectionModel"),
    ("yolo11n", "DetectionModel"),
    ("yolov10n", "DetectionModel"),
    ("yolo26n", "DetectionModel"),
    ("yolov9t", "DetectionModel"),
    ("yolov8n-seg", "SegmentationModel"),
    ("yolov8n-pose", "PoseModel"),
    ("yolov8n-cls", "ClassificationModel"),
    ("yolov8n-obb", "OBBModel"),
    ("rtdetr-l", "RTDETRDetectionModel"),
    ("yolov8s-world", "WorldModel"),
):
    model(f"ultralytics {_name}", of(f"{_U}:{_class}", f"{_name}.yaml", verbose=False), floats(1, 3, 320, 320))
model("ultralytics YOLO", of("package_nets:yolo"), floats(1, 3, 320, 320))


model("open_clip_torch ViT-B-32", of("open_clip:create_model", "ViT-B-32"), floats(1, 3, 224, 224), whole(49000, 1, 77))
model("open_clip_torch RN50", of("open_clip:create_model", "RN50"), floats(1, 3, 224, 224), whole(49000, 1, 77))
model(
    "open_clip_torch coca_ViT-B-32", of("open_clip:create_model", "coca_ViT-B-32"), floats(1, 3, 224, 224), whole(49000, 1, 76)
)
model(
    "open_clip_torch convnext_base", of("open_clip:create_model", "convnext_base"), floats(1, 3, 224, 224), whole(49000, 1, 77)
)
model(
    "open_clip_torch ViT-B-16-SigLIP",
    of("open_clip:create_model", "ViT-B-16-SigLIP", load_weights=False),
    floats(1, 3, 224, 224),
    whole(31000, 1, 64),
)

_M = "monai.networks.nets"
model(
    "monai UNet",
    of(
        f"{_M}:UNet",
        spatial_dims=3,
        in_channels=1,
        out_channels=2,
        channels=(16, 32, 64, 128),
        strides=(2, 2, 2),
        num_res_units=2,
    ),
    floats(1, 1, 64, 64, 64),
)
model("monai SegResNet", of(f"{_M}:SegResNet", init_filters=8), floats(1, 1, 32, 32, 32))
model(
    "monai UNETR",
    of(f"{_M}:UNETR", in_channels=1, out_channels=2, img_size=32, feature_size=8, hidden_size=48, mlp_dim=96, num_heads=4),
    floats(1, 1, 32, 32, 32),
)
model("monai SwinUNETR", of(f"{_M}:SwinUNETR", in_channels=1, out_channels=2, feature_size=12), floats(1, 1, 64, 64, 64))
model(
    "monai DynUNet",
    of(f"{_M}:DynUNet", 3, 1, 2, kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2]),
    floats(1, 1, 32, 32, 32),
)
model("monai DenseNet121", of(f"{_M}:DenseNet121", spatial_dims=2, in_channels=1, out_channels=2), floats(1, 1, 64, 64))
model(
    "monai ViT",
    of(
        f"{_M}:ViT",
        in_channels=1,
        img_size=(32, 32, 32),
        patch_size=(16, 16, 16),
        hidden_size=96,
        mlp_dim=192,
        num_layers=2,
        num_heads=4,
        classification=True,
    ),
    floats(1, 1, 32, 32, 32),
)
model("monai VNet", of(f"{_M}:VNet"), floats(1, 1, 32, 32, 32))
model(
    "monai AutoEncoder",
    of(f"{_M}:AutoEncoder", spatial_dims=2, in_channels=1, out_channels=1, channels=(4, 8), strides=(2, 2)),
    floats(1, 1, 64, 64),
)
model(
    "monai DiffusionModelUNet",
    of(
        f"{_M}:DiffusionModelUNet",
        spatial_dims=2,
        in_channels=1,
        out_channels=1,
        channels=(32, 64, 64),
        attention_levels=(False, True, True),
        num_res_blocks=1,
        num_head_channels=32,
    ),
    floats(1, 1, 64, 64),
    timesteps=whole(1000, 1),
)
model("monai sliding window", of("package_nets:Sliding"), floats(1, 1, 64, 64))
model(
    "monai GlobalNet",
    of(f"{_M}:GlobalNet", image_size=[32, 32], spatial_dims=2, in_channels=2, num_channel_initial=8, depth=2),
    floats(1, 2, 32, 32),
)
