"""The tuner: moves the parameters of other laws down an explicit loss, and proves each move first.

Plain gradient descent on live traffic fails: the difference between two spans of time is ten times the effect of a
move, and users pay for bad moves. But arrivals do not depend on parameters. So past arrivals can be replayed in a
*twin* of the deployment, with any parameters and the same random numbers. A move goes through:

1. `epoch`: paired antithetic perturbations in the twin (`spsa`), and some more points, give candidates.
2. `gate`: the best one must be certainly better than the values in force, block by block on the same calls.
3. `trial`: it is tried on the real service: on a canary or in alternating blocks.
4. `guard`: stops a trial and rolls it back, by measured figures only.

The twin is a parameter; nothing here simulates, reads a clock or draws random numbers, which are functions of (seed,
stream, number) (`randomness`), so that every decision can be replayed from its `record`.
"""
