"""Asks as the vendor's cinder-api does: by cinder's own VolumeAPI at 3.11.

Usage: vendor.py CINDER_CONF VOLUME_ID; prints the answer. Runs inside the
cinder of either release.
"""

from __future__ import print_function

import sys

from cinder import context
from cinder import objects
from cinder import rpc
# Declares the options of all services.
from cinder.common import config  # noqa: F401
from oslo_config import cfg


def main():
    objects.register_all()
    cfg.CONF(['--config-file', sys.argv[1]], project='cinder')
    rpc.init(cfg.CONF)
    # Its client is made when the module is read, in some releases.
    from cinder.volume import rpcapi

    class VolumeAPI(rpcapi.VolumeAPI):
        def get_migrate_volume_progress(self, ctxt, volume):
            cctxt = self._get_cctxt(volume['host'], '3.11')
            return cctxt.call(ctxt, 'get_migrate_volume_progress',
                              volume=volume)

    admin = context.get_admin_context()
    volume = objects.Volume.get_by_id(admin, sys.argv[2])
    try:
        print(VolumeAPI().get_migrate_volume_progress(admin, volume))
    except Exception as error:
        print(type(error).__name__)


if __name__ == '__main__':
    main()
