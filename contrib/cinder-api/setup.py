"""The package: what pip and Python 2.7 need to know of it."""

import setuptools

setuptools.setup(
    name='cinder-progress-api',
    version='0.1.0',
    description="Lets cinder-api tell how far a volume's migration is",
    long_description="Two API extensions of cinder, loaded by "
                     "osapi_volume_extension in cinder.conf. They ask the "
                     "cinder-progress daemon of the volume's node.",
    license='Apache-2.0',
    packages=['cinder_progress_api'],
    # What cinder-api runs on is there already. To name cinder here would
    # make pip replace the one that the distribution or kolla has built.
    install_requires=[],
    python_requires='>=2.7',
    classifiers=[
        'Environment :: OpenStack',
        'Programming Language :: Python :: 2.7',
        'Programming Language :: Python :: 3',
    ],
)
