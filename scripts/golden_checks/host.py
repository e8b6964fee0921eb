"""What runs on the host, or has no weights: tokens, prompts, windows, metrics."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from data_pipeline import transforms, windows
from golden_checks import results
from golden_checks.files import Arrays, GoldenFile, below, indices
from golden_checks.operators import cases
from golden_checks.results import Result
from svtas_jax import stitching
from svtas_jax.evaluation.metrics import SegmentCounts, background_classes
from svtas_jax.models import prompts, tokenizer
from svtas_jax.models.image import normalise
from svtas_jax.structs import IGNORE_LABEL, NO_LABEL, StreamSpec

UPDATE_ACCURACY = 1e-9  # absolute
METRICS = 1e-6  # absolute
LEVELS = 1.0  # of 255, of a resized pixel
NORMALISED = 1e-5  # absolute

_METRIC_NAMES = {
    "acc": "Acc",
    "edit": "Edit",
    "f1_10": "F1@0.10",
    "f1_25": "F1@0.25",
    "f1_50": "F1@0.50",
    "auc": "Auc",
    "ar_1": "AR@AN1",
    "ar_5": "AR@AN5",
    "ar_15": "AR@AN15",
    "map_50": "mAP@0.5",
    "map_avg": "avg_mAP",
}


def check_tokenizer(file: GoldenFile) -> Iterator[Result]:
    """Texts to ids."""
    constants = (tokenizer.VOCAB_SIZE, tokenizer.START, tokenizer.END)
    reference = tuple(file.meta[k] for k in ("vocab_size", "start", "end"))
    yield results.exact("constants", "vocab_size, start, end", constants, reference)
    for text in file.meta["texts"]:
        ours = tokenizer.encode(text["text"])
        yield results.exact("token ids", repr(text["text"]), ours, text["ids"])


def check_prompts(file: GoldenFile) -> Iterator[Result]:
    """Label sequences to token ids, and the sentences that they are made of."""
    meta = file.meta
    for kind, ours in (
        ("learner", prompts.learned_ordinal),
        ("fix", prompts.fixed_ordinal),
    ):
        for number, text in meta[f"ordinal_{kind}"].items():
            wrong = ours(int(number)) != text
            yield Result("ordinals", f"{kind} {number}: {text}", wrong, 0)
    wrong = prompts.TEMPLATES != tuple(meta["templates"])
    yield Result("templates", "templates", wrong, 0)
    for where, case, arrays in cases(file):
        yield from _check_prompt(
            where, case, arrays, tuple(meta["classes"][case["mapping"]])
        )


def _check_prompt(where, case, arrays: Arrays, class_names) -> Iterator[Result]:
    words = case.get("ctx_init", "").replace("_", " ").split()
    num_context = len(words) or case.get("n_ctx", 8)
    tables = prompts.build_tables(
        class_names,
        kind="learned" if case["encoder"] == "learner" else "fixed",
        clip_steps=case["T"],
        max_len=case["max_len"],
        num_context=num_context,
        class_position=case["position"],
    )
    templates = arrays.get("template_idx", np.zeros((case["N"], case["T"]), int))

    @jax.jit
    def assemble(labels):
        steps = prompts.told_labels(labels, case["T"])
        if case.get("first"):
            steps = jnp.full_like(steps, NO_LABEL)
        return steps, prompts.prompt_ids(tables, steps, np.maximum(templates, 0))

    steps, ids = map(np.asarray, assemble(arrays["labels"].astype(np.int32)))
    if "ids" not in arrays:  # the public code fails; ours must give sane ids
        legal = (ids > prompts.CONTEXT - num_context) & (ids < tokenizer.VOCAB_SIZE)
        yield Result("prompts of its crashes", f"{where}ids", np.sum(~legal), 0)
        return
    tokens = np.where(ids <= prompts.CONTEXT, prompts.CONTEXT, ids)
    yield results.exact("prompt ids", where + "ids", tokens, arrays["ids"])
    if "ctx_index" not in arrays:
        return
    shared = case.get("context") == "generic" or bool(words)
    rows = np.broadcast_to(-1 if shared else steps[..., None], ids.shape)
    given = arrays["ids"] == prompts.CONTEXT
    for name, ours in (("ctx_index", prompts.CONTEXT - ids), ("ctx_class", rows)):
        yield results.exact(
            "context vectors", where + name, ours[given], arrays[name][given]
        )


def check_sampler(file: GoldenFile) -> Iterator[Result]:
    """Windows of videos: frames to decode, labels and which of them count."""
    for where, case, arrays in cases(file):
        stride = case["sample_rate"]
        clip_frames = case["clip_seg_num"] * stride
        spec = StreamSpec(clip_frames, stride, case["sliding_window"])
        labels = arrays["raw_labels"]
        for window in case["windows"]:
            index = window["idx"]
            plan = windows.plan_windows(
                case["video_len"], spec, num_labels=len(labels), first=index, count=1
            )
            targets, valid = windows.window_targets(
                labels, plan, spec, per_step=case["is_train"]
            )
            ours = {"frames": plan.frames, "labels": targets, "mask": valid}
            for name, array in ours.items():
                path = f"{where}{index}/{name}"
                reference = arrays[f"{index}/{name}"]
                yield results.exact(name, path, array[0], reference)


def check_stitching(file: GoldenFile) -> Iterator[Result]:
    """Chunk scores [stages, N, classes, F] to videos."""
    for where, case, arrays in cases(file):
        chunks = [i for i in indices(arrays) if f"{i}/scores" in arrays]
        # The last stage, (chunks, videos, F, classes).
        scores = np.stack([arrays[f"{i}/scores"][-1].swapaxes(1, 2) for i in chunks])
        truth = np.stack([arrays[f"{i}/gt"] for i in chunks])
        for video in indices(arrays, "out/"):
            out = below(arrays, f"out/{video}/")
            size = dict(num_frames=len(out["pred"]), hop=case["sliding_window"])
            stitched = stitching.stitch_frames(scores[:, video], **size)
            labels = stitching.logits_to_labels(stitched)
            true = stitching.stitch_frames(truth[:, video, :, None], **size)[:, 0]
            path = f"{where}out/{video}/"
            yield results.exact("scores", path + "score", stitched.T, out["score"])
            yield results.exact("labels", path + "pred", labels, out["pred"])
            yield results.exact("ground truth", path + "gt", true, out["gt"])
        accuracy = [_chunk_accuracy(s, t) for s, t in zip(scores, truth, strict=True)]
        yield results.absolute(
            "chunk accuracy",
            where + "update_acc",
            accuracy,
            case["update_acc"],
            UPDATE_ACCURACY,
        )


def _chunk_accuracy(scores: np.ndarray, truth: np.ndarray) -> float:
    """Mean accuracy of the videos of a chunk; one without a label counts 0."""
    shares = []
    for video_scores, labels in zip(scores, truth, strict=True):
        counts = SegmentCounts.zero(scores.shape[-1])
        counts = counts.add(stitching.logits_to_labels(video_scores), labels)
        labelled = np.any(labels != IGNORE_LABEL)
        shares.append(counts.compute()["acc"] / 100 if labelled else 0.0)
    return float(np.mean(shares))


def check_metrics(file: GoldenFile) -> Iterator[Result]:
    """Splits of one or more videos."""
    meta = file.meta
    background = background_classes(meta["classes"], meta["background_names"])
    zero = SegmentCounts.zero(len(meta["classes"]), background)
    for case in meta["cases"]:
        arrays, counts = below(file.arrays, f"{case['index']}/"), zero
        for video, returned in enumerate(case["update_returns"]):
            given = below(arrays, f"{video}/")
            scores = given["scores"].T.astype(np.float64)
            recall = counts.ranked.recall_sum
            alone = zero.add(given["pred"], given["gt"]).compute()
            counts = counts.add(given["pred"], given["gt"], scores)
            ours = 100 * (counts.ranked.recall_sum - recall)
            path = f"{case['index']}/{video}"
            yield results.absolute(
                "AR@AN", path, ours, arrays["AR_at_AN"][:, video], METRICS
            )
            shares = [alone["f1_50"] / 100, alone["acc"] / 100]
            reference = [returned["f1_at_last_overlap"], returned["acc"]]
            yield results.absolute("one video", path, shares, reference, METRICS)
        for ours, value in counts.compute().items():
            reference = case["metrics"][_METRIC_NAMES[ours]]
            yield results.absolute(ours, case["name"], value, reference, METRICS)


def check_transform(file: GoldenFile) -> Iterator[Result]:
    """Resize and crop of pictures, and their normalisation."""
    mean, std = file.meta["mean"], file.meta["std"]
    for where, case, arrays in cases(file):
        resize, crop = tuple(case["resize"]), case["center_crop"]
        ours = transforms.transform_frames(
            arrays["image_uint8"][None],
            resize=resize,
            crop=transforms.centre_crop(resize, crop),
        )[0]
        reference = arrays["cropped_uint8"]
        path = where + "cropped_uint8"
        yield results.absolute("resize and crop", path, ours, reference, LEVELS)
        pixels = np.asarray(normalise(jnp.asarray(reference), mean, std))
        corner = np.moveaxis(pixels, -1, 0)
        height, width = arrays["normalised_corner"].shape[1:]
        summary = [pixels.mean(dtype=np.float64), pixels.std(dtype=np.float64)]
        for name, array in (
            ("normalised_corner", corner[:, :height, :width]),
            ("normalised_mean_std", summary),
        ):
            path = where + name
            yield results.absolute("normalise", path, array, arrays[name], NORMALISED)
