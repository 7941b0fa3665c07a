"""What a worker of this machine imports while it starts, as a preload of Dask's."""

from harness.runtime.imports import import_at_once

import_at_once("harness.workers.jobs")
