import argparse
import sys


class Bird:
    def __init__(self, name, mass):
        self.name = name
        self.mass = mass

    def __repr__(self):
        return f"Bird({self.name!r}, {self.mass})"


def main():
    parser = argparse.ArgumentParser(description="List birds")
    parser.add_argument("--sort", choices=["name", "mass"], default="name")
    args = parser.parse_args()
    birds = [Bird("bee", 2.0), Bird("giant", 20.0)]
    for bird in sorted(birds, key=lambda bird: getattr(bird, args.sort)):
        print(bird)
    return 0


if __name__ == "__main__":
    sys.exit(main())
