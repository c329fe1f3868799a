"""Hostile ticket files: the answer is always the ticket that was written, or a TicketError.

And little memory is used to find out."""
import atexit, contextlib, hashlib, io, json, math, os, shutil, struct, subprocess, sys
import tempfile, tracemalloc, warnings, zlib
from dataclasses import asdict
from pathlib import Path
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from safetensors import safe_open
from safetensors.torch import save
import torch
from torch import nn
from train_ticket import prng
from train_ticket.coding import HEADER_WORDS, MAGIC, encode, pack
from train_ticket.infer import main as evaluate_main, network_of
from train_ticket.masks import masks_of, ticketize
from train_ticket.squeeze import text, whole
from train_ticket.ticket import FORMAT_VERSION, TicketError, audit, describe, from_model
from train_ticket.ticket import load_ticket, save_ticket, ticket_bytes

LIMIT = 2**26   # bytes that a file of 1 kB may make the reader allocate
HARD = dict(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def small(density=.5) -> nn.Module:
    network = ticketize(nn.Sequential(nn.Linear(40, 30), nn.ReLU(), nn.Linear(30, 7)), seed=2**64 - 1)
    with torch.no_grad():
        for mask in masks_of(network).values():
            random = torch.rand(mask.scores.shape, generator=torch.Generator().manual_seed(1))
            mask.scores.copy_(random - 1 + density)
    return network


def mixed() -> nn.Module:
    "One that isn't pure, and has statistics."
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        return ticketize(nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Linear(4, 4)), skip=('2',))


def plain_bytes(values) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(values, np.uint8).copy())


def texts(header: dict) -> dict:
    return {key: json.dumps(value) for key, value in header.items()}


def deflated(text: bytes) -> bytes:
    coder = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, HEADER_WORDS)
    return coder.compress(text) + coder.flush()


def fields_of(layer) -> dict: # as before there were candidates
    return {name: value for name, value in asdict(layer).items() if name != 'candidate'}


def version_1(ticket) -> bytes:
    "The ticket as the first version of the format wrote it."
    tensors = {f'mask.{name}': torch.from_numpy(pack(mask)) for name, mask in ticket.masks.items()}
    header = dict(format_version=1, prng_version=1, seed=ticket.seed, distribution=ticket.distribution,
                  arch=ticket.arch, arch_args=ticket.arch_args,
                  layers=[fields_of(layer) for layer in ticket.layers],
                  normalisation=ticket.normalisation, classes=ticket.classes, training=ticket.training,
                  pure=ticket.pure)
    return save(tensors, texts(header))


def version_2(ticket) -> bytes:
    "The ticket as the second version of the format wrote it."
    tensors, layers = {}, []
    for layer in ticket.layers:
        data, coding = encode(ticket.masks[layer.name])
        tensors[f'mask.{layer.name}'] = torch.from_numpy(data)
        layers.append(fields_of(layer) | dict(kept=int(ticket.masks[layer.name].sum()), coding=coding))
        del layers[-1]['density']
    about = dict(pure=ticket.pure, arch_args=ticket.arch_args, normalisation=ticket.normalisation,
                 classes=ticket.classes, layers=layers, training=ticket.training)
    tensors['about'] = plain_bytes(deflated(json.dumps(about).encode()))
    return save(tensors, texts(dict(format_version=2, prng_version=1, seed=ticket.seed,
                                    distribution=ticket.distribution, arch=ticket.arch)))


folder = Path(tempfile.mkdtemp(prefix='hostile'))
atexit.register(shutil.rmtree, folder, ignore_errors=True)
tickets = [from_model(small(), classes=('a', 'b'), training=dict(dataset='x', note='é')),
           from_model(small(.05)), from_model(mixed())]
contents = [ticket_bytes(ticket) for ticket in tickets]
tickets += [tickets[0]]*2
contents += [version_1(tickets[0]), version_2(tickets[0])]
ALL = range(len(tickets))


def same(read, ticket) -> bool:
    facts = 'seed', 'distribution', 'layers'
    if any(getattr(read, name) != getattr(ticket, name) for name in facts): return False
    return all(np.array_equal(read.masks[name], mask) for name, mask in ticket.masks.items())


def read(content: bytes, check=True):
    path = folder/'hostile.ticket.safetensors'
    path.write_bytes(content)
    return load_ticket(path, check)


def refused(content: bytes, words=''):
    with pytest.raises(TicketError) as caught: read(content)
    assert words in str(caught.value), caught.value


@pytest.mark.parametrize('which', ALL)
def test_every_version_is_read(which):
    assert same(read(contents[which]), tickets[which])


@pytest.mark.parametrize('which', ALL)
def test_every_truncation(which):
    for end in range(len(contents[which])): refused(contents[which][:end])


def damaged(content: bytes, draw) -> bytes:
    place = draw(st.integers(0, len(content) - 1))
    kind = draw(st.sampled_from(['flip', 'cut', 'insert', 'repeat', 'length']))
    head, tail = content[:place], content[place:]
    if kind == 'flip': return head + bytes([tail[0] ^ 1 << draw(st.integers(0, 7))]) + tail[1:]
    if kind == 'cut': return head + tail[draw(st.integers(1, 60)):]
    if kind == 'insert': return head + draw(st.binary(min_size=1, max_size=20)) + tail
    if kind == 'repeat': return head + head[-50:] + tail
    return struct.pack('<Q', draw(st.integers(0, 2**64 - 1))) + content[8:]


@settings(max_examples=1500, **HARD)
@given(st.data())
def test_damage(data):
    "Bits flipped, pieces cut out, inserted and repeated, lengths rewritten: in headers and in masks."
    which = data.draw(st.sampled_from(ALL))
    content = contents[which]
    for _ in range(data.draw(st.integers(1, 3))):
        content = damaged(content, data.draw)
        if not content: break
    for check in True, False:
        try: answer = read(content, check)
        except TicketError: continue
        describe(answer)
        if check: assert same(answer, tickets[which]) or not answer.layers


special = st.sampled_from([2**31, 2**63, 2**64, -1, 1e308, 'range', 'bits', 'signed', [1, 28, 28]])
scalars = st.none() | st.booleans() | st.integers(-2**70, 2**70) | st.floats() | st.text(max_size=8) | special
anything = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4)
                        | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6)


def with_claims(content: bytes, change) -> bytes:
    "The file with `change(header)` applied to what its header states."
    path = folder/'source.safetensors'
    path.write_bytes(content)
    with safe_open(path, 'pt') as f:
        tensors, header = {key: f.get_tensor(key) for key in f.keys()}, f.metadata()
    header = {key: json.loads(value) for key, value in header.items()}
    change(header)
    return save(tensors, texts(header))


@settings(max_examples=800, **HARD)
@given(st.integers(0, 2), st.data())
def test_claims(which, data):
    "A well-formed file whose header states anything at all."
    value = data.draw(anything)

    def change(header):
        parts = header, header['arch_args'], header['training'], *header['layers']
        where = data.draw(st.sampled_from(parts))
        key = data.draw(st.sampled_from(sorted(where) or ['in_shape']) | st.text(max_size=5))
        old = where.get(key)
        if isinstance(old, list) and old and data.draw(st.booleans()):
            old[data.draw(st.integers(0, len(old) - 1))] = value
        else:
            where[key] = value

    try: answer = read(with_claims(contents[which], change))
    except TicketError: return
    describe(answer)
    assert same(answer, tickets[which])
    audit(answer)
    ticket_bytes(answer)
    try: network_of(answer, mode='generate')
    except TicketError: pass


def claim(**changes):
    return with_claims(contents[0], lambda header: header['layers'][0].update(changes))


HUGE = 2**31 - 1
ABSURD = [
    (dict(shape=[HUGE, HUGE]), 'no mask of'), (dict(shape=[HUGE]*4), 'no mask of'),
    (dict(shape=[HUGE]*32), 'no mask of'), (dict(shape=[2]*99), 'has shape'),
    (dict(shape=[2**40, 2]), 'has shape'), (dict(shape=[-30, 40]), 'has shape'),
    (dict(shape=[-30, -40]), 'has shape'), (dict(shape=[0, 40]), 'has shape'),
    (dict(shape=[1200]), 'has shape'), (dict(shape=[]), 'has shape'),
    (dict(shape=[2**20, 2**20], coding='range', kept=2**39), 'no mask of'),
    (dict(shape=[2**20, 2**20], coding='adaptive', kept=2**39), 'not coded adaptively'),
    (dict(kept=10**30), 'density'), (dict(scale=float('inf')), 'scale'), (dict(scale=1e300), 'scale'),
    (dict(index=2**40), 'index'), (dict(name='1.weight'), 'missing'), (dict(sha256=''), 'altered')]


@pytest.mark.parametrize('changes, words', ABSURD)
def test_absurd_claims(changes, words):
    refused(claim(**changes), words)


SEEDS = [(2**64, 'seed must be'), (-1, 'seed must be'), (10**400, 'seed must be'),
         (2.5, 'no int'), (True, 'no int'), ('1', 'no int'), (None, 'no int')]


@pytest.mark.parametrize('seed, words', SEEDS)
def test_seeds(seed, words):
    refused(with_claims(contents[0], lambda header: header.update(seed=seed)), words)


def images(*in_shape):
    return dict(arch_args=dict(in_shape=list(in_shape)))


def scaled(**normalisation):
    return dict(normalisation=normalisation)


WRONG = [dict(training=dict(dataset=7)), dict(training=[1]), dict(training='mnist'), dict(classes=[7]),
         dict(arch_args=[]), dict(arch_args=7), dict(arch_args=dict(in_shape='wide')), images(1, -28, 28),
         images(2.5), dict(arch_args=dict(in_shape={})), dict(factory=[]), scaled(mean=7, std=7),
         scaled(mean=[.5]), scaled(mean=[], std=[1.]), images(1, 28, 28) | scaled(mean=[.5]*2, std=[.5]*2)]


@pytest.mark.parametrize('changes', WRONG, ids=str)
def test_wrong_types(changes):
    refused(with_claims(contents[0], lambda header: header.update(changes)))


def one_line(*arguments) -> str:
    "What tt_evaluate prints about a mistake."
    err = io.StringIO()
    with contextlib.redirect_stderr(err): assert evaluate_main(list(map(str, arguments))) == 2
    assert err.getvalue().startswith('error: ') and err.getvalue().count('\n') == 1, err.getvalue()
    return err.getvalue()


LENET = dict(arch='lenet300', training=dict(dataset='digits'), normalisation=dict(mean=[.5], std=[.5]))
UNUSABLE = [*WRONG, dict(arch_args=dict(width='wide')), dict(arch_args=dict(width=[1])),
            dict(arch_args=dict(depth=1)), images(1, 9, 9), dict(arch_args=dict(classes=None)),
            dict(arch='lenet9'), dict(arch='custom'), dict(training={}),
            dict(training=dict(dataset='nowhere')), dict(classes=['a']), scaled(mean=[.5]*2, std=[.5]*2)]


@pytest.mark.parametrize('changes', UNUSABLE, ids=str)
def test_evaluation_of_wrong_types_is_one_line(changes):
    from train_ticket.models import build
    path = save_ticket(from_model(ticketize(build('lenet300')), **LENET), folder/'lenet.ticket.safetensors')
    path.write_bytes(with_claims(path.read_bytes(), lambda header: header.update(changes)))
    one_line('--ticket', path, '--device', 'cpu')


def test_duplicates():
    twice = with_claims(contents[0], lambda header: header['layers'].append(header['layers'][0]))
    refused(twice, 'two layers have one name')
    length = int.from_bytes(contents[0][:8], 'little')
    header = contents[0][8:8 + length].decode().rstrip()
    twice = header[:-1] + ',"mask.0":{"dtype":"U8","shape":[150],"data_offsets":[0,150]}}'
    refused(struct.pack('<Q', len(twice)) + twice.encode() + contents[0][8 + length:], 'stands twice')


def test_nesting():
    deep = json.loads('['*60 + ']'*60)
    nested = with_claims(contents[0], lambda header: header['training'].update(note=deep))
    refused(nested, 'nested too deeply')


@pytest.mark.parametrize('dtype', ['I8', 'F32', 'F64', 'BF16', 'BOOL', 'U64', 'F8_E4M3', 'NONSENSE', 7, None])
def test_wrong_dtypes(dtype):
    for which, key in (0, 'mask.0'), (4, 'about'), (2, 'trained.2.weight'), (2, 'measured.1.running_mean'):
        length = int.from_bytes(contents[which][:8], 'little')
        header = json.loads(contents[which][8:8 + length])
        if header[key]['dtype'] == dtype: continue
        header[key]['dtype'] = dtype
        text = json.dumps(header).encode()
        refused(struct.pack('<Q', len(text)) + text + contents[which][8 + length:])


def layer(*shape, kept=0, coding='range', name='0') -> dict:
    return dict(name=name, index=0, shape=shape, scale=1., kept=kept, coding=coding, sha256='0'*64)


def third(tensors, layers=(), **facts) -> bytes:
    "A file of the third format."
    header = dict(format_version=FORMAT_VERSION, prng_version=prng.SPEC_VERSION, seed=1,
                  distribution='signed', arch='custom', arch_args={}, normalisation={}, classes=[],
                  layers=list(layers), training={},
                  factory='', pure=bool(layers))
    return save(tensors, texts(header | facts))


def second(about: bytes) -> bytes:
    "A file of the second format."
    header = dict(format_version=2, prng_version=prng.SPEC_VERSION, seed=1, distribution='signed',
                  arch='custom')
    return save(dict(about=plain_bytes(deflated(about))), texts(header))


def compact(arch, args, sizes) -> bytes:
    "A file of the compact form, its masks all zeros, with a right checksum."
    facts = whole(12) + whole(1) + text(arch) + text('') + text(json.dumps(args)) + whole(0)
    content = facts + b''.join(whole(3*size + 2) for size in sizes) + bytes(sum(sizes))
    return MAGIC + hashlib.sha256(content).digest()[:4] + content


SHAPES = dict(square=(2**15, 2**15), row=(1, 2**30), column=(2**30, 1), kernel=(8, 2**20, 8, 8),
              fitting=(600, 1024), fitting_column=(600*1024, 1), fitting_row=(1, 600*1024), many=(2,)*32)


def bombs() -> dict:
    "Files of about 1 kB that claim to be much more; name → content."
    about = dict(pure=True, arch_args={}, normalisation={}, classes=[], layers=[], training={})
    classes, layers = about | dict(classes=['']*100_000), about | dict(layers=[layer(2, 2)]*3000)
    found = {'deflated brackets': second(b'['*900_000),
             'deflated zeros': second(b'[' + b'0,'*450_000 + b'0]'),
             'many classes': second(json.dumps(classes).encode()),
             'many layers': second(json.dumps(layers).encode())}
    zeros = torch.zeros(600, dtype=torch.uint8)
    for name, shape in SHAPES.items():
        tensors = {'mask.0': zeros.clone()}
        found[name] = third(tensors, [layer(*shape)])
        found[name + ' normal'] = third(tensors, [layer(*shape)], distribution='normal')
        found[name + ' adaptive'] = third(tensors, [layer(*shape, coding='adaptive')])
        found[name + ' all kept'] = third(tensors, [layer(*shape, kept=math.prod(shape))])
    found['empty but wide'] = third({f'trained.{i}': torch.zeros(0, 2**40) for i in range(3)})
    found['empty statistics'] = third({f'measured.{i}': torch.zeros(0, 2**40) for i in range(3)})
    found['wide network'] = third({}, arch='mlp', arch_args=dict(width=1e7))
    found['wider network'] = third({}, arch='cnn', arch_args=dict(width=1e300))
    found['compact wide network'] = compact('mlp', dict(width=1e7), [300]*4)
    found['compact wide images'] = compact('lenet300', dict(in_shape=[1, 2**20, 2**20]), [300]*3)
    found['compact fitting'] = compact('lenet300', dict(width=2.), [900, 200, 4])
    number = b'{"__metadata__":{"format_version":"' + b'9'*962 + b'"}}'
    found['long number'] = struct.pack('<Q', len(number)) + number
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
    survive(bombs()['compact fitting'])   # what a first use imports doesn't count
    for name, content in bombs().items():
        tracemalloc.start()
        try: survive(content)
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < LIMIT, f'{name}: {peak:,} bytes'


PROCESS = '''
import resource
import test_hostile as t
found = t.bombs()
for content in t.contents: t.survive(content)
held = int(open("/proc/self/statm").read().split()[0])*resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + t.LIMIT,)*2)
for name, content in found.items(): t.survive(content)
print(len(found))
'''


def test_bombs_in_a_process_without_memory():
    "The same, with every allocation of every library counted: by a limit on the process's address space."
    process = subprocess.run([sys.executable, '-c', PROCESS], cwd=Path(__file__).parent, capture_output=True,
                             text=True, env=os.environ | dict(OMP_NUM_THREADS='1'))
    assert process.returncode == 0 and int(process.stdout) > 20, process.stderr[-2000:]


def test_nothing_is_unpickled():
    "A pickle is no ticket, and no module that reads tickets can unpickle or import by a name."
    import pickle
    refused(pickle.dumps(tickets[0]))
    refused(b'PK\x03\x04' + bytes(1000))
    for module in 'adaptive', 'coding', 'ticket', 'squeeze', 'infer', 'hub':
        source = (Path(__file__).parent.parent/f'train_ticket/{module}.py').read_text()
        assert not any(word in source for word in ('pickle', 'torch.load(', 'allow_pickle', 'import_module'))


def test_a_factory_is_never_imported():
    (folder/'evil.py').write_text(f'open({str(folder/"was_here")!r}, "w")\ndef make(): pass\n')
    evil = from_model(small(), factory=f'{folder}/evil.py:make')
    answer = read(ticket_bytes(evil))
    assert 'evil.py:make' in describe(answer)
    audit(answer)
    with pytest.raises(TicketError, match='--model'): network_of(answer)
    assert not (folder/'was_here').exists()


def test_a_terminal_is_not_commanded():
    evil = from_model(small(), arch='custom', classes=('\x1b[2J',), factory='\x1b[2J\nfake: factory',
                      training={'\x1b]0;x\x07': '\x9b31m\n\nfake: line'})
    text = describe(read(ticket_bytes(evil)))
    assert all(c.isprintable() or c == '\n' for c in text)
    assert not any(line.startswith('fake') for line in text.splitlines())
