"""python -m kdface"""

from kdface.cli import console

console()
