"Package metadata and dependencies come from settings.ini; nothing else is configured here."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=['='], interpolation=None)
parser.read(here/'settings.ini', encoding='utf-8')
config = {key: value.replace('%(lib_name)s', 'train_ticket') for key, value in parser['DEFAULT'].items()}

setup(
    name=config['lib_name'], version=config['version'], description=config['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8') if (here/'README.md').exists() else '',
    long_description_content_type='text/markdown',
    author=config['author'], author_email=config['author_email'], license='Apache-2.0', keywords=config['keywords'],
    url=f"https://github.com/{config['user']}/{config['repo']}",
    python_requires='>=' + config['min_python'],
    packages=find_packages(include=['train_ticket', 'train_ticket.*']), include_package_data=True, zip_safe=False,
    install_requires=config['requirements'].split(),
    extras_require={key.removesuffix('_requirements'): value.split() for key, value in config.items() if key.endswith('_requirements')},
    entry_points={'console_scripts': config['console_scripts'].split(),
                  'nbdev': [f"{config['lib_name']}={config['lib_name']}._modidx:d"]},
    classifiers=['Intended Audience :: Science/Research', 'License :: OSI Approved :: Apache Software License',
                 'Programming Language :: Python :: 3', 'Operating System :: POSIX :: Linux'],
)
