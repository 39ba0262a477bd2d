"""A push in a process of its own, which a test can stop: ``python push_process.py STATE DESTINATION LAYOUT…``."""

import json
import sys
from pathlib import Path

from twinmail.errors import TwinmailError
from twinmail.oci.destination import Destination
from twinmail.oci.push import plan
from twinmail.tasks.push import to_registry

if __name__ == "__main__":
    state, destination, *layouts = sys.argv[1:]
    images = [plan(Path(one).name, Path(one)) for one in layouts]
    try:
        print(json.dumps(to_registry(images, Destination.parse(destination), Path(state)).to_json()))
    except TwinmailError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
