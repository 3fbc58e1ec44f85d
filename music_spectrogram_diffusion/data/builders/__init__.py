"""The paper's datasets: from what one downloads by hand to prepared examples.

One module a dataset, on a common base. Nothing here is imported by
`music_spectrogram_diffusion.data`, because the builders need TensorFlow
Datasets; `data.prepare_dataset` imports what it is asked for.
"""
