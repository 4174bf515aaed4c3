"""The tuner: moves the parameters of other laws down an explicit loss, and proves each move first.

Naive gradient descent on live traffic loses: the noise between two spans of time is ten times what a move
changes, and users pay for it. But arrivals do not depend on parameters. So what arrived can be played again,
in a *twin* of the deployment, under any parameters and with the same random numbers. A move goes through:

1. `epoch`: paired antithetic perturbations in the twin (`spsa`), and some points beside them, give candidates.
2. `gate`: the best must be surely better than what is in force, block by block on the same calls.
3. `trial`: what the twin promises is tried on the real service: on a canary or in alternating blocks.
4. `guard`: outside of all this, stops it and takes it back. It believes figures only.

The twin is a function that is given; nothing here simulates, reads a clock or rolls a die. Random numbers
are functions of (seed, stream, number) (`dice`), so that every decision replays from its `record`.
"""
