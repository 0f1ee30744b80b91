from skgenad.benchmark.protocols import Split, make_split
from skgenad.benchmark._detectors import list_detectors
