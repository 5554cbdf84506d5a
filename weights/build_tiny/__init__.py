"""The recipe of `weights/tiny`: from icon sets to a small Stable Diffusion, in one command.

`python -m weights.build_tiny` runs the stages in order and skips those that are
finished: download, pictures, tokenizer, autoencoder, latents, denoiser, folder, report, examples.
"""
