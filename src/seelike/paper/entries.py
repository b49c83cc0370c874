"""The figures of the paper and of the systems that it stands on, each as one entry (paper.md 3, 4, 5, 11)."""

from __future__ import annotations

from seelike.paper import claims
from seelike.paper.words import PaperFigure, PaperRun

RUNS: dict[str, PaperRun] = {
    "pair": PaperRun(("vit", "resnet"), ("similarity", "heads", "field", "skip")),
    "large": PaperRun(("huge-vit", "resnet", "large-resnet"), ("similarity",)),
    "attention": PaperRun(("vit",), ("attention",), optional=("huge-vit", "small-vit", "little-data")),
    "cut": PaperRun(("vit", "cuts"), ("cut",)),
    "where": PaperRun(("vit", "resnet"), ("localization", "position"), optional=("vit-gap", "small-vit")),
    "classes": PaperRun(("vit", "resnet"), ("probe", "separation"), optional=("vit-gap", "small-vit"), per_class=50),
    "fractions": PaperRun(("vit", "fractions"), ("reference",)),
    "small-fractions": PaperRun(("small-vit", "small-fractions"), ("reference",)),
    "resnet-fractions": PaperRun(("resnet", "resnet-fractions"), ("reference",)),
    "probes": PaperRun(
        ("vit", "resnet"),
        ("probe",),
        settings=("probe.tokens=false",),
        optional=(
            *("small-vit", "base-vit", "huge-vit", "large-resnet", "mixer", "little-data", "resnet-little-data"),
        ),
        per_class=50,
    ),
    "fine-tuned": PaperRun(("vit", "fine-tuned"), ("reference",)),
    "resnet-fine-tuned": PaperRun(("resnet", "resnet-fine-tuned"), ("reference",)),
    "sizes": PaperRun(("small-vit", "vit"), ("similarity",), optional=("huge-vit",)),
    "mixer": PaperRun(("mixer", "vit", "resnet"), ("similarity",), optional=("large-mixer",)),
    "deepvit": PaperRun(("vit", "deepvit"), ("attention-similarity",)),
    "families": PaperRun(("vit", "pyramid"), ("similarity", "skip"), optional=("hybrid",)),
    "positions": PaperRun(("vit-gap", "peg"), ("position",), optional=("no-position", "sincos")),
    "maps": PaperRun(("vit",), ("maps",), images=256),
    "weights": PaperRun(("vit", "resnet", "mixer"), ("embeddings", "cost"), optional=("pyramid",), images=0),
}

FIGURES: dict[str, PaperFigure] = {
    "fig1": PaperFigure(
        "Similarity of all layers within a model",
        "ViT layers are alike from the first to the last; ResNet's fall into stages, early and late ones unlike.",
        "pair",
        ("similarity",),
        ("similarity",),
        statistics=("ends_similarity", "ends_similarity difference"),
    ),
    "fig2": PaperFigure(
        "Similarity of all layers across two models",
        "The lower half of ResNet-50 matches the lowest quarter of ViT-L/16, the rest of it the next third; the top "
        "third of the ViT matches nothing.",
        "pair",
        ("similarity",),
        ("similarity", "best-match-*"),
        (claims.top_third_matches_nothing,),
        statistics=("lower_half_match_depth",),
    ),
    "fig1-large": PaperFigure(
        "Figures 1, 2 and B.1 for the largest models",
        "As for the smaller ones; the lowest 100 layers of ResNet-152 match the lowest 30 of H/14.",
        "large",
        ("similarity",),
        ("similarity", "best-match-*"),
    ),
    "fig3": PaperFigure(
        "How far the heads look, with much data and with little (Figures 3, 4, C.5, C.6)",
        "With JFT the first two blocks have local and global heads and the last two only global ones; trained on "
        "ImageNet alone, L/16 and H/14 have no local heads in the first blocks, and B/32 has.",
        "attention",
        ("attention",),
        ("attention*",),
        apart=("small-vit", "huge-vit"),  # trained on as much data: Figure 4 says nothing of them and the ViT
    ),
    "fig5": PaperFigure(
        "Local and global heads of the first block against the ResNet's first units",
        "CKA with ResNet units falls as the heads' mean distance grows, for all five units.",
        "pair",
        ("heads",),
        ("heads*",),
    ),
    "fig6": PaperFigure(
        "Effective receptive fields (Figures 6, C.1 to C.4)",
        "Fields of low ViT layers are larger than ResNet's, which grow gradually; the ViT's keep a strong centre "
        "patch, which late attention loses before the residual sum.",
        "pair",
        ("field",),
        ("field*",),
    ),
    "fig7": PaperFigure(
        "Norm of the skip over norm of the branch, and cosines (Figures 7, E.1, E.2)",
        "CLS has high ratios in the first half and low ones in the second, spatial tokens the reverse; ViT's are above "
        "ResNet's throughout.",
        "pair",
        ("skip",),
        ("skip*",),
    ),
    "fig8": PaperFigure(
        "Without the skips of one block",
        "Layers before and after the block have little similarity; about 4 % of accuracy is lost for middle blocks.",
        "cut",
        ("cut",),
        ("cut", "cut-across"),
    ),
    "fig9": PaperFigure(
        "Where a token's patch is kept (Figures 9, 10, D.1 to D.3)",
        "Interior tokens of CLS models are most like their own patch up to the last block; those of GAP models and the "
        "ResNet's last unit far less, and its earlier units better than its last.",
        "where",
        ("localization",),
        ("localization*",),
    ),
    "fig11": PaperFigure(
        "Linear probes of single tokens and pooled ones, CLS against GAP (Figures 11, D.4)",
        "In GAP models and ResNets every position of the last layer classifies nearly as well as all together; in CLS "
        "models the spatial tokens do not.",
        "classes",
        ("probe",),
        ("probe*",),
    ),
    "fig12": PaperFigure(
        "Similarity to the model trained on all data, by block",
        "Lower blocks are alike with 3 to 10 % of the data already, higher blocks need far more, above all in L/16.",
        "fractions",
        ("reference",),
        ("reference",),
        (claims.more_data_more_alike, claims.less_alike_than_seeds),
    ),
    "fig12-small": PaperFigure(
        "Figure 12 for a smaller ViT",
        "B/32 needs less data than L/16 for its higher blocks.",
        "small-fractions",
        ("reference",),
        ("reference",),
        (claims.more_data_more_alike, claims.less_alike_than_seeds),
    ),
    "fig12-resnet": PaperFigure(
        "Figure 12 for the ResNet",
        "Not in the paper.",
        "resnet-fractions",
        ("reference",),
        ("reference",),
        (claims.more_data_more_alike, claims.less_alike_than_seeds),
    ),
    "fig13": PaperFigure(
        "Linear probes by data and architecture (Figures 13, F.1, F.2)",
        "With more data the middle layers probe better already (by up to 30 points); ResNets rise near the end.",
        "probes",
        ("probe",),
        ("probe*",),
        (claims.more_data_better_middle,),
        statistics=(
            "largest rise of accuracy between neighbouring layers",
            "rise of accuracy in the last third of the layers, difference",
        ),
    ),
    "figG1": PaperFigure(
        "Before and after fine-tuning, by block (Figure G.1)",
        "The first four or five blocks are preserved; data far from the first changes the later ones more.",
        "fine-tuned",
        ("reference",),
        ("reference",),
        (claims.far_data_changes_more,),
    ),
    "figG1-resnet": PaperFigure(
        "Figure G.1 for the ResNet",
        "Not in the paper.",
        "resnet-fine-tuned",
        ("reference",),
        ("reference",),
        (claims.far_data_changes_more,),
    ),
    "figG2": PaperFigure(
        "Similarity across sizes of one architecture (Figure G.2)",
        "Heat maps of B/32, L/16 and H/14 with each other.",
        "sizes",
        ("similarity",),
        ("similarity",),
        statistics=("ends_similarity", "block_contrast"),
    ),
    "figH": PaperFigure(
        "MLP-Mixer with itself, with a ViT and with a ResNet (Figures H.1, H.2)",
        "Two nearly uncorrelated parts, a small early and a large later one; more like a ViT than like a ResNet.",
        "mixer",
        ("similarity",),
        ("similarity",),
        (claims.mixer_is_like_the_vit,),
        statistics=("block_contrast", "ends_similarity"),
    ),
    "separation": PaperFigure(
        "Soft nearest neighbour loss by layer (Frosst et al. 2019)",
        "Classes are entangled in all layers of a ResNet but the last.",
        "classes",
        ("separation",),
        ("separation*",),
    ),
    "position": PaperFigure(
        "Where things are, read off each layer (Islam et al. 2020)",
        "Zero padding lets convolutional networks know absolute positions.",
        "where",
        ("position",),
        ("position*",),
    ),
    "deepvit": PaperFigure(
        "Attention similarity of blocks, ViT and DeepViT (Zhou et al. 2021)",
        "In deep ViTs the attention of late blocks is nearly the same; Re-attention keeps it apart.",
        "deepvit",
        ("attention-similarity",),
        ("attention-similarity*",),
        (claims.reattention_keeps_blocks_apart,),
    ),
    "families": PaperFigure(
        "A pyramid and a hybrid beside the ViT (PVT, front transformer and back CNN)",
        "Not in the paper.",
        "families",
        ("similarity", "skip"),
        ("similarity", "skip*"),
    ),
    "positions": PaperFigure(
        "Position encodings: learned, none, sin-cos, and PEG (CPVT)",
        "A convolution with zero padding after the first block supplies absolute position.",
        "positions",
        ("position",),
        ("position*",),
    ),
    "maps": PaperFigure(
        "What attention looks at: maps of heads and rollout",
        "Attention from CLS covers the object.",
        "maps",
        ("maps",),
        ("maps*",),
    ),
    "embeddings": PaperFigure(
        "Filters of the patch embedding and similarity of positions (ViT paper, Figure 7)",
        "Filters look like a basis of fine structure; close positions are most alike, in rows and columns.",
        "weights",
        ("embeddings",),
        ("embeddings*",),
    ),
    "cost": PaperFigure(
        "Multiply-adds per block",
        "Attention's quadratic part overtakes one projection when tokens outnumber channels.",
        "weights",
        ("cost",),
        ("cost*",),
    ),
}

ALSO = {
    "fig4": "fig3",
    "fig10": "fig9",
    "figB1": "fig2",
    **{f"figC{n}": "fig6" for n in range(1, 5)},
    "figC5": "fig3",
    "figC6": "fig3",
    **{f"figD{n}": "fig9" for n in range(1, 4)},
    "figD4": "fig11",
    "figE1": "fig7",
    "figE2": "fig7",
    "figF1": "fig13",
    "figF2": "fig13",
    "figF3": "fig11",
    "figH1": "figH",
    "figH2": "figH",
}
"""Other figures of the paper, and the entry that shows them."""
