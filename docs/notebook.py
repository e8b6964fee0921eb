# %% [markdown]
# # From a video to its actions
#
# This notebook needs a trained run. `bash scripts/quickstart.sh` trains the one that is
# used here, on rendered videos, in about ten minutes on two cores. The notebook is made
# from `docs/notebook.py` by `python scripts/build_notebook.py`.

# %%
import numpy as np

import svtas_jax

run = svtas_jax.load("runs/demo_transeger", checkpoint="best")
print(f"{run.config.model.system}, trained to step {run.meta.step}")
print(f"classes: {', '.join(run.class_names)}")
print(f"trained at {run.fps:g} frames a second")

# %% [markdown]
# ## A whole video
# The result has the label and the probabilities of every frame, and draws itself.

# %%
video = "data/demo/Videos/S1_Coffee_C1.mp4"
result = run.segment(video)
result

# %%
for segment in result.segments[:6]:
    print(
        f"{segment.start_s:5.1f} s to {segment.end_s:5.1f} s  {segment.label:<12}"
        f" {segment.confidence:.0%}"
    )
print(f"{len(result.segments)} segments, {result.num_frames} frames")
print(f"labels {result.labels.shape}, scores {result.scores.shape}")

# %% [markdown]
# ## As it comes
# A stream yields a chunk as soon as its frames are there. The source may also be an
# address (`rtsp://...`), the number of a camera, a pipe, or `-` for standard input.

# %%
for chunk in run.stream(video):
    names = ", ".join(segment.label for segment in chunk.segments)
    print(f"chunk {chunk.index}, up to {chunk.times_s[-1]:.1f} s: {names}")

# %% [markdown]
# ## Frames of your own
# Push frames, one or many at a time, from wherever you have them. Labels are the same.

# %%
from data_pipeline.video import read_frames

frames = read_frames(video, range(result.num_frames))
with run.open_stream(fps=15) as session:
    steps = [step for frame in frames for step in session.push(frame)]
    steps += session.close()
same = all(step.label == result.label_names[step.frame] for step in steps)
print("the same labels:", same)

# %% [markdown]
# ## The pure function
# Below all of this is one function of a state and a chunk, to use in a `jax.jit`,
# `lax.scan` or `grad` of your own. Two streams side by side:

# %%
spec = svtas_jax.StreamSpec(run.config.data.clip_frames, run.config.data.frame_stride)
size = run.config.data.crop
chunk = svtas_jax.Chunk(
    frames=np.zeros((2, spec.clip_steps, size, size, 3), np.uint8),
    labels=np.zeros((2, spec.clip_frames), np.int32),
    valid=np.ones((2, spec.clip_frames), bool),
    starts=np.ones(2, bool),
    num_chunks=np.ones(2, np.int32),
)
state = run.model.initial_state(2)
state, logits = svtas_jax.segment_chunk(run.variables, state, chunk, model=run.model)
print("logits (videos, steps, classes):", logits.shape)
