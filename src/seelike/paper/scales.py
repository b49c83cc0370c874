"""The three scales: a laptop without a network, CIFAR-10, and the paper's own models on ImageNet."""

from __future__ import annotations

from seelike.paper.words import Scale

LAB = Scale(
    "lab",
    {
        "vit": ("vit-cls",),
        "vit-gap": ("vit-gap",),
        "resnet": ("resnet",),
        "mixer": ("mixer",),
        "small-vit": ("vit-tiny",),
        "little-data": ("vit-cls-10", "vit-cls-3"),
        "fractions": ("vit-cls-seed1", "vit-cls-30", "vit-cls-10", "vit-cls-3"),
        "small-fractions": ("vit-tiny-seed1", "vit-tiny-30", "vit-tiny-10", "vit-tiny-3"),
        "resnet-fractions": ("resnet-seed1", "resnet-30", "resnet-10", "resnet-3"),
        "resnet-little-data": ("resnet-3",),
        "cuts": ("vit-cls-cut1", "vit-cls-cut6", "vit-cls-cut10"),
        "fine-tuned": ("vit-cls-to-texturesB", "vit-cls-to-cifar10"),
        "resnet-fine-tuned": ("resnet-to-texturesB", "resnet-to-cifar10"),
        "deepvit": ("deepvit",),
        "pyramid": ("pvt",),
        "hybrid": ("hybrid",),
        "no-position": ("vit-nopos",),
        "sincos": ("vit-sincos",),
        "peg": ("cpvt-gap",),
    },
    "scenes:test?n=2000",
    None,
    10,
    "models of the zoo, trained on generated scenes of 32 pixels; offline",
)

CIFAR = Scale(
    "cifar",
    {
        "vit": ("vit-cls-cifar10",),
        "vit-gap": ("vit-gap-cifar10",),
        "resnet": ("resnet-cifar10",),
        "mixer": ("mixer-cifar10",),
    },
    None,
    2000,
    10,
    "models of the zoo, trained on CIFAR-10; give its test images with --images",
)

IMAGENET = Scale(
    "imagenet",
    {
        "vit": ("timm:vit_large_patch16_224.augreg_in21k_ft_in1k",),
        "small-vit": ("timm:vit_base_patch32_224.augreg_in21k_ft_in1k",),
        "base-vit": ("timm:vit_base_patch16_224.augreg_in21k_ft_in1k",),
        "huge-vit": ("timm:vit_huge_patch14_224.orig_in21k",),
        "resnet": ("timm:resnetv2_50x1_bit.goog_in21k_ft_in1k",),
        "large-resnet": ("timm:resnetv2_152x2_bit.goog_in21k_ft_in1k",),
        "mixer": ("timm:mixer_b16_224.goog_in21k_ft_in1k",),
        "large-mixer": ("timm:mixer_l16_224.goog_in21k_ft_in1k",),
        "little-data": ("timm:vit_base_patch16_224.augreg_in1k",),
    },
    None,
    10240,
    1000,
    "published weights of timm; give ImageNet's validation images with --images folder:DIR",
)

SCALES = {scale.name: scale for scale in (LAB, CIFAR, IMAGENET)}
