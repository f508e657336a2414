"""The bench on which networks are trained, shared by plugins. It declares no hook, so any plugin may import it.

| module | holds |
|---|---|
| `computing` | where to compute, at which precision, and random numbers that leave the global ones alone |
| `arrays` | tensors and optimiser states as numpy arrays, and back |
| `rates` | learning rates over the course of a training |
| `trainer` | `Trainer`: epochs, validation, the best epoch, checkpoints, progress, failures |
| `pairs` | pairs held out, which pairs are similar, batches, and the MAP of a hasher both ways |
| `tunable` | `TunableEncoder`: an image encoder whose network can be trained |

Importing the package, or `tunable`, does not import torch; the other modules do.
"""
