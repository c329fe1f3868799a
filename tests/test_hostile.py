"Hostile ticket files: whatever a stranger sends, the answer is the ticket that was written or a TicketError, and little memory."
import atexit, json, math, os, shutil, struct, subprocess, sys, tempfile, tracemalloc, zlib
from dataclasses import asdict
from pathlib import Path
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors import safe_open
from safetensors.numpy import save
import torch
from torch import nn
from train_ticket import prng
from train_ticket.infer import network_of
from train_ticket.layers import gated_layers, ticketize
from train_ticket.models import build
from train_ticket.ticket import FORMAT_VERSION, HEADER_WORDS, TicketError, audit, describe, expand, from_model, load_ticket, pack, save_ticket, squeeze

LIMIT = 2**26   # bytes that a file of 1 kB may make the reader allocate


def small(density=.5) -> nn.Module:
    network = ticketize(nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 7)), seed=2**64 - 1)
    with torch.no_grad():
        for layer in gated_layers(network).values(): layer.scores.copy_(torch.rand(layer.scores.shape, generator=torch.Generator().manual_seed(1)) - 1 + density)
    return network


folder = Path(tempfile.mkdtemp(prefix='hostile')); atexit.register(shutil.rmtree, folder, ignore_errors=True)
tickets = [from_model(small(), classes=('a', 'b'), training=dict(dataset='x', note='é')), from_model(small(.05)),
           from_model(ticketize(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Linear(4, 4)), skip=('1',)))]   # one that isn't pure
files = [save_ticket(ticket, folder/f'{i}.ticket.safetensors') for i, ticket in enumerate(tickets)]
contents = [path.read_bytes() for path in files]


def version_1(ticket) -> bytes:
    "The ticket as the first version of the format wrote it."
    tensors = {f'mask.{name}': pack(mask) for name, mask in ticket.masks.items()} | {f'trained.{name}': array for name, array in ticket.trained.items()}
    header = dict(format_version=1, prng_version=1, seed=ticket.seed, distribution=ticket.distribution, arch=ticket.arch, arch_args=ticket.arch_args, layers=[asdict(layer) for layer in ticket.layers],
                  normalisation=ticket.normalisation, classes=ticket.classes, training=ticket.training, pure=ticket.pure)
    return save(tensors, {key: json.dumps(value) for key, value in header.items()})


tickets, contents = tickets + tickets[:1], contents + [version_1(tickets[0])]


def same(read, ticket) -> bool:
    return (read.seed, read.distribution, read.layers) == (ticket.seed, ticket.distribution, ticket.layers) and all(np.array_equal(read.masks[name], mask) for name, mask in ticket.masks.items())


def read(content: bytes, check=True):
    path = folder/'hostile.ticket.safetensors'; path.write_bytes(content)
    return load_ticket(path, check)


def refused(content: bytes, words=''):
    with pytest.raises(TicketError) as caught: read(content)
    assert words in str(caught.value), caught.value


def test_version_1_is_read(): assert same(read(contents[-1]), tickets[-1])


@pytest.mark.parametrize('which', range(4))
def test_every_truncation(which):
    for end in range(len(contents[which])): refused(contents[which][:end])


@settings(max_examples=1500, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damage(data):
    "Bits flipped, pieces cut out, inserted and repeated, lengths rewritten: in header, deflated header, masks."
    which = data.draw(st.integers(0, 3)); content = contents[which]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(content) - 1))
        kind = data.draw(st.sampled_from(['flip', 'cut', 'insert', 'repeat', 'length']))
        if kind == 'flip': content = content[:place] + bytes([content[place] ^ 1 << data.draw(st.integers(0, 7))]) + content[place + 1:]
        elif kind == 'cut': content = content[:place] + content[place + data.draw(st.integers(1, 60)):]
        elif kind == 'insert': content = content[:place] + data.draw(st.binary(min_size=1, max_size=20)) + content[place:]
        elif kind == 'repeat': content = content[:place] + content[max(0, place - 50):place] + content[place:]
        else: content = struct.pack('<Q', data.draw(st.integers(0, 2**64 - 1))) + content[8:]
        if not content: break
    for check in True, False:
        try: answer = read(content, check)
        except TicketError: continue
        describe(answer)
        if check: assert same(answer, tickets[which]) or not answer.layers


anything = st.recursive(st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats() | st.text(max_size=8) | st.sampled_from([2**31, 2**63, 2**64, -1, 1e308, 'range', 'bits', 'signed']),
                        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6)


def with_claims(content: bytes, change) -> bytes:
    "The file with `change(header, about)` applied to its two headers."
    path = folder/'source.safetensors'; path.write_bytes(content)
    with safe_open(path, 'np') as f: tensors, metadata = {key: f.get_tensor(key) for key in f.keys()}, f.metadata()
    header, about = {key: json.loads(value) for key, value in metadata.items()}, expand(tensors['about'].tobytes())
    change(header, about)
    tensors['about'] = np.frombuffer(squeeze(about), np.uint8)
    return save(tensors, {key: json.dumps(value) for key, value in header.items()})


@settings(max_examples=800, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2), st.data())
def test_claims(which, data):
    "A well-formed file whose header says anything at all."
    value = data.draw(anything)
    def change(header, about):
        where = data.draw(st.sampled_from([header, about, *about['layers']]))
        key = data.draw(st.sampled_from(sorted(where)) | st.text(max_size=5))
        if isinstance(where.get(key), list) and where[key] and data.draw(st.booleans()): where[key][data.draw(st.integers(0, len(where[key]) - 1))] = value
        else: where[key] = value
    try: answer = read(with_claims(contents[which], change))
    except TicketError: return
    describe(answer); assert same(answer, tickets[which]); audit(answer)
    try: network_of(answer, mode='generate')
    except TicketError: pass


def claim(**changes): return with_claims(contents[0], lambda header, about: about['layers'][0].update(changes))


@pytest.mark.parametrize('changes, words', [
    (dict(shape=[2**31 - 1, 2**31 - 1]), 'no mask of'), (dict(shape=[2**31 - 1, 2**31 - 1, 2**31 - 1, 2**31 - 1]), 'no mask of'), (dict(shape=[2**40, 2]), 'has shape'),
    (dict(shape=[-30, 40]), 'has shape'), (dict(shape=[-30, -40]), 'has shape'), (dict(shape=[0, 40]), 'has shape'), (dict(shape=[1200]), 'has shape'), (dict(shape=[]), 'has shape'),
    (dict(shape=[2**20, 2**20], coding='range', kept=2**39), 'no mask of'), (dict(kept=10**30), 'density'), (dict(scale=float('inf')), 'scale'), (dict(scale=1e300), 'scale'),
    (dict(index=2**40), 'number'), (dict(name='1.weight'), 'missing'), (dict(sha256=''), 'altered')])
def test_absurd_claims(changes, words): refused(claim(**changes), words)


@pytest.mark.parametrize('seed, words', [(2**64, 'seed must be'), (-1, 'seed must be'), (10**400, 'seed must be'), (2.5, 'no int'), (True, 'no int'), ('1', 'no int'), (None, 'no int')])
def test_seeds(seed, words): refused(with_claims(contents[0], lambda header, about: header.update(seed=seed)), words)


def test_duplicates():
    refused(with_claims(contents[0], lambda header, about: about['layers'].append(about['layers'][0])), 'two layers have one name')
    length = int.from_bytes(contents[0][:8], 'little'); header = contents[0][8:8 + length].decode().rstrip()
    twice = header[:-1] + ',"mask.0":{"dtype":"U8","shape":[150],"data_offsets":[0,150]}}'
    refused(struct.pack('<Q', len(twice)) + twice.encode() + contents[0][8 + length:], 'stands twice')


@pytest.mark.parametrize('dtype', ['I8', 'F32', 'F64', 'BF16', 'BOOL', 'U64', 'F8_E4M3', 'NONSENSE', 7, None])
def test_wrong_dtypes(dtype):
    for which, key in (0, 'mask.0'), (0, 'about'), (2, 'trained.1.weight'):
        length = int.from_bytes(contents[which][:8], 'little'); header = json.loads(contents[which][8:8 + length])
        if header[key]['dtype'] == dtype: continue
        header[key]['dtype'] = dtype
        text = json.dumps(header).encode(); refused(struct.pack('<Q', len(text)) + text + contents[which][8 + length:])


def bombs() -> dict:
    "Files of about 1 kB that claim to be much more; name → content."
    file = lambda tensors, **facts: save(tensors, {key: json.dumps(value) for key, value in (dict(format_version=FORMAT_VERSION, prng_version=prng.SPEC_VERSION, seed=1, distribution='signed', arch='custom') | facts).items()})
    deflated = lambda text: (lambda coder: coder.compress(text) + coder.flush())(zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, HEADER_WORDS))
    about = lambda layers, **more: np.frombuffer(deflated(json.dumps(dict(pure=True, arch_args={}, normalisation={}, classes=[], layers=layers, training={}) | more).encode()), np.uint8)
    layer = lambda *shape, kept=0, coding='range', name='0': dict(name=name, index=0, shape=shape, scale=1., kept=kept, coding=coding, sha256='0'*64)
    zeros = np.zeros(600, np.uint8)
    found = {'deflated brackets': file(dict(about=np.frombuffer(deflated(b'['*900_000), np.uint8))),
             'deflated zeros': file(dict(about=np.frombuffer(deflated(b'[' + b'0,'*450_000 + b'0]'), np.uint8))),
             'many layers': file(dict(about=about([layer(2, 2)]*3000))), 'many classes': file(dict(about=about([], classes=['']*100_000)))}
    for name, shape in dict(square=(2**15, 2**15), row=(1, 2**30), column=(2**30, 1), kernel=(8, 2**20, 8, 8), fitting=(600, 1024), fitting_column=(600*1024, 1), fitting_row=(1, 600*1024)).items():
        found[name] = file({'mask.0': zeros, 'about': about([layer(*shape)])})
        found[name + ' normal'] = file({'mask.0': zeros, 'about': about([layer(*shape)])}, distribution='normal')
        found[name + ' all kept'] = file({'mask.0': zeros, 'about': about([layer(*shape, kept=math.prod(shape))])})
    empty = {f'trained.{i}': np.zeros((0, 2**40), np.float32) for i in range(3)}
    found['empty but wide'] = file({'about': about([], pure=False)} | empty)
    found['wide network'] = file({'about': about([], pure=False, arch_args=dict(width=1e7))}, arch='mlp')
    found['wider network'] = file({'about': about([], pure=False, arch_args=dict(width=1e300))}, arch='cnn')
    found['long number'] = b'%c\x03\0\0\0\0\0\0' % 232 + b'{"__metadata__":{"format_version":"' + b'9'*962 + b'"}}'
    return {name: content for name, content in found.items() if len(content) < 1600}


def survive(content: bytes):
    for check in True, False:
        try: answer = read(content, check)
        except TicketError: continue
        describe(answer)
        try: network_of(answer)
        except TicketError: pass


def test_bombs_allocate_little():
    assert len(bombs()) > 20
    for name, content in bombs().items():
        tracemalloc.start()
        try: survive(content)
        finally: peak = tracemalloc.get_traced_memory()[1]; tracemalloc.stop()
        assert peak < LIMIT, f'{name}: {peak:,} bytes'


def test_bombs_in_a_process_without_memory():
    "The same, with every allocation of every library counted: by a limit on the process's address space."
    code = 'import resource; import test_hostile as t; found = t.bombs(); t.survive(t.contents[0]); t.survive(t.contents[1])\n' \
           'held = int(open("/proc/self/statm").read().split()[0])*resource.getpagesize(); resource.setrlimit(resource.RLIMIT_AS, (held + t.LIMIT,)*2)\n' \
           'for name, content in found.items(): t.survive(content)\nprint(len(found))'
    process = subprocess.run([sys.executable, '-c', code], cwd=Path(__file__).parent, capture_output=True, text=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert process.returncode == 0 and int(process.stdout) > 20, process.stderr[-2000:]


def test_nothing_is_unpickled():
    "A pickle is no ticket, and no module that reads tickets can unpickle."
    import pickle
    refused(pickle.dumps(tickets[0])); refused(b'PK\x03\x04' + bytes(1000))
    for module in 'ticket', 'infer', 'hub':
        source = Path(__file__).parent.parent/f'train_ticket/{module}.py'
        if source.exists(): assert not any(word in source.read_text() for word in ('pickle', 'torch.load(', 'allow_pickle'))


def test_a_terminal_is_not_commanded():
    evil = from_model(small(), arch='custom', classes=('\x1b[2J',), training={'\x1b]0;x\x07': '\x9b31m\n\nfake: line'})
    text = describe(read(save_ticket(evil, folder/'evil').read_bytes()))
    assert all(c.isprintable() or c == '\n' for c in text) and not any(line.startswith('fake') for line in text.splitlines())
