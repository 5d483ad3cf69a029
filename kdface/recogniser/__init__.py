"""A trained network in use: images in, embeddings, decisions and names out. `kdface.load` makes one."""

from kdface.recogniser.crops import Crops as Crops
from kdface.recogniser.points import OperatingPoint as OperatingPoint
from kdface.recogniser.recogniser import Candidate as Candidate
from kdface.recogniser.recogniser import Decision as Decision
from kdface.recogniser.recogniser import Identified as Identified
from kdface.recogniser.recogniser import Recogniser as Recogniser
