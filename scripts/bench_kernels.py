"""Measure generated-weight products against stored ones: python scripts/bench_kernels.py [--device cuda]

Appends one line per size and batch to results/kernels.jsonl. Variants take turns, so that other load on
the machine affects all of them alike. On a CPU it measures every instruction set of the C kernels, and for
comparison int8 by PyTorch's dynamic quantization, and llama.cpp's ternary and 1-bit types if llama-cpp-python
is installed. To see PyTorch as it runs without AVX-512, set ATEN_CPU_CAPABILITY=avx2
ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2.
"""
import argparse, ctypes, itertools, os, statistics, sys, time, warnings

# PyTorch's threads must not spin through the next variant's turn. It has to be set before PyTorch is loaded
os.environ.setdefault('GOMP_SPINCOUNT', '10000')
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
import torch
from torch.nn.functional import linear
from train_ticket import kernels_c
from train_ticket.core import append_record, hardware, instructions, versions
from train_ticket.kernels import Generator, backends, mask_stride, masked_linear

DENSE = 'float32', 'bfloat16'
SIZES = 512, 1024, 2048, 4096, 8192, 16384
GGML_TYPES = {'TQ1_0': 34, 'TQ2_0': 35, 'Q1_0': 41}   # of ggml.h: ternary in 1.7 and 2.1 bits, one bit


class Ggml:
    "llama.cpp's library of matrix products, as llama-cpp-python installs it; an `ImportError` without it."
    def __init__(self):
        package = find_spec('llama_cpp')
        if package is None: raise ImportError('llama-cpp-python is not installed')
        folder = Path(package.origin).parent/'lib'
        try:
            self.base = ctypes.CDLL(str(folder/'libggml-base.so'), mode=ctypes.RTLD_GLOBAL)
            self.cpu = ctypes.CDLL(str(folder/'libggml-cpu.so'))
        except OSError as error:
            raise ImportError(str(error)) from error
        for name in 'ggml_init', 'ggml_new_tensor_2d', 'ggml_mul_mat', 'ggml_new_graph', 'ggml_get_data':
            getattr(self.base, name).restype = ctypes.c_void_p
        self.cpu.ggml_graph_plan.restype = Plan
        self.base.ggml_quantize_chunk.restype = ctypes.c_size_t
        self.cpu.ggml_cpu_init()

    def tensor(self, context, kind, columns, rows): # (ggml's tensor, the address of its numbers)
        long = ctypes.c_int64
        made = ctypes.c_void_p(self.base.ggml_new_tensor_2d(context, kind, long(columns), long(rows)))
        return made, ctypes.c_void_p(self.base.ggml_get_data(made))

    def product(self, kind, weight, x): # float32 [out, fan_in], [batch, fan_in] → (function, its result)
        (out, fan_in), batch, base = weight.shape, len(x), self.base
        context = ctypes.c_void_p(base.ggml_init(Memory(weight.numel() + 2**26, None, False)))
        a, packed = self.tensor(context, kind, fan_in, out)
        sizes = ctypes.c_int64(0), ctypes.c_int64(out), ctypes.c_int64(fan_in)
        base.ggml_quantize_chunk(kind, ctypes.c_void_p(weight.data_ptr()), packed, *sizes, None)
        b, inputs = self.tensor(context, 0, fan_in, batch)
        ctypes.memmove(inputs, x.data_ptr(), 4*x.numel())
        y = ctypes.c_void_p(base.ggml_mul_mat(context, a, b))
        graph = ctypes.c_void_p(base.ggml_new_graph(context))
        base.ggml_build_forward_expand(graph, y)
        plan = self.cpu.ggml_graph_plan(graph, torch.get_num_threads(), None)
        work = ctypes.create_string_buffer(plan.work_size)
        plan.work_data = ctypes.addressof(work)
        numbers = (ctypes.c_float*(batch*out)).from_address(base.ggml_get_data(y))

        def call(work=work): # holds the buffer
            self.cpu.ggml_graph_compute(graph, ctypes.byref(plan))
        call.free = lambda: base.ggml_free(context)
        return call, torch.frombuffer(numbers, dtype=torch.float32).view(batch, out)


class Memory(ctypes.Structure): # ggml_init_params
    _fields_ = [('size', ctypes.c_size_t), ('buffer', ctypes.c_void_p), ('no_alloc', ctypes.c_bool)]


class Plan(ctypes.Structure): # ggml_cplan
    _fields_ = [('work_size', ctypes.c_size_t), ('work_data', ctypes.c_void_p), ('n_threads', ctypes.c_int),
                ('threadpool', ctypes.c_void_p), ('abort', ctypes.c_void_p), ('abort_data', ctypes.c_void_p),
                ('use_ref', ctypes.c_bool)]


def quantized(dense): # `nn.Linear` in int8
    layer = torch.nn.Linear(*dense.shape[::-1], bias=False, device='meta')
    layer.weight = torch.nn.Parameter(dense, requires_grad=False)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')   # PyTorch's own version of this is deprecated in favour of torchao's
        module = torch.nn.Sequential(layer)
        return torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8)


def of_others(dense, x): # name → a function of no arguments
    made, module = {}, quantized(dense)
    made['int8'] = lambda: module(x)
    try: ggml = Ggml()
    except ImportError as error:
        print('llama.cpp is not measured:', error)
        return made
    ternary = torch.randint(-1, 2, dense.shape).float()
    truth = x @ ternary.T
    for name, kind in GGML_TYPES.items():
        made[f'ggml {name}'], y = ggml.product(kind, ternary, x)
        made[f'ggml {name}']()
        if name != 'Q1_0': # which has no zero
            assert (y - truth).norm() < .03*truth.norm(), f'ggml {name} is wrong'
    return made


def generated(x, masks, backend): # a function of no arguments
    return lambda: masked_linear(x, next(masks), 1, 0, backend=backend)


def on_cpu(x, mask, dense): # name → a function of no arguments
    made, generator = {}, Generator(1, 0)
    if 'c' in backends('cpu'):
        made['c'] = lambda: kernels_c.linear(x, mask, generator)
        for number, name in enumerate(kernels_c.instruction_sets()[:-1]):
            made[f'c {name}'] = lambda number=number: kernels_c.linear(x, mask, generator, number)
        made['packed'] = lambda: kernels_c.linear_packed(x, mask, mask, 1., x.shape[1])
    return made | of_others(dense, x)


def variants(size, batch, device): # name → a function of no arguments
    mask = torch.randint(0, 256, (size, mask_stride(size)), dtype=torch.uint8, device=device)   # density ½
    x, x16 = torch.randn(batch, size, device=device), torch.randn(batch, size, device=device).bfloat16()
    dense = torch.randn(size, size, device=device)
    dense16 = dense.bfloat16()
    made = {'float32': lambda: linear(x, dense), 'bfloat16': lambda: linear(x16, dense16)}
    if device == 'cpu': return made | on_cpu(x, mask, dense)
    masks = itertools.cycle([mask.clone() for _ in range(max(1, 2**28//mask.numel()))])   # more than a cache
    for name in [name for name in backends(device) if name in ('cuda', 'triton')]:
        made |= {name: generated(x, masks, name), name + ' bfloat16': generated(x16, masks, name)}
    return made


def seconds_of(call, device, calls=1): # of one call
    if device == 'cpu':
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)/1000/calls


def timed(calls, device='cpu', repeats=15) -> dict: # name → seconds of each turn
    times = {name: [] for name in calls}
    for turn, (name, call) in itertools.product(range(repeats + 2), calls.items()):   # two to warm up
        seconds = seconds_of(call, device, 20)
        if turn > 1:
            times[name].append(seconds)
    return times


def memory_speed(device): # bytes per second that a sum over far more than the caches reads
    numbers = torch.ones((2**27 if device == 'cpu' else 2**30)//2).to(device)
    return numbers.numel()*4/min(seconds_of(lambda: numbers.sum(), device, 5) for _ in range(8))


def spread(values): # of the turns
    return dict(best=min(values), median=statistics.median(values), worst=max(values))


def ratios(times) -> dict: # pairs of names → how many times faster; turn by turn, of medians, of best turns
    pairs = list(itertools.product(DENSE, [name for name in times if name not in DENSE]))
    turns = {f'{a} / {b}': [x/y for x, y in zip(times[a], times[b])] for a, b in pairs}

    def of(statistic): return {f'{a} / {b}': statistic(times[a])/statistic(times[b]) for a, b in pairs}
    return dict(ratios={pair: dict(min=min(each), median=statistics.median(each), max=max(each))
                        for pair, each in turns.items()},
                ratios_of_medians=of(statistics.median), ratios_of_best=of(min))


def measure(size, batch, device, repeats, memory): # a record
    calls = variants(size, batch, device)
    times = timed(calls, device, repeats)
    for call in calls.values():
        getattr(call, 'free', bool)()
    least, milliseconds = size*mask_stride(size)/memory, {}
    for name, each in times.items():
        milliseconds[name] = spread([1e3*seconds for seconds in each])
    ours = [name for name in ('c', 'cuda', 'triton') if name in times]
    return dict(size=size, batch=batch, n=repeats, milliseconds=milliseconds, **ratios(times),
                roofline_milliseconds=dict(memory=1e3*least),
                fraction_of_roofline={name: least/min(times[name]) for name in ours})


def show(record):
    print(f'{record["size"]}², batch {record["batch"]}, n = {record["n"]}')
    for name, t in record['milliseconds'].items():
        text = f'  {name:14} {t["median"]:9.3f} ms ({t["best"]:.3f}..{t["worst"]:.3f})'
        for dense in DENSE:
            ratio = record['ratios'].get(f'{dense} / {name}')
            if ratio: text += f'  {dense} {ratio["median"]:5.2f}× ({ratio["min"]:.2f}..{ratio["max"]:.2f})'
        print(text, flush=True)


def installed(*packages) -> dict: # name → version
    found = {}
    for name in packages:
        try: found[name] = version(name)
        except PackageNotFoundError: continue
    return found


def parsed():
    output = Path(__file__).resolve().parent.parent/'results/kernels.jsonl'
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add('--device', default='cpu', choices=('cpu', 'cuda'))
    add('--sizes', type=int, nargs='+', default=SIZES, help='sizes of the square matrices')
    add('--batches', type=int, nargs='+', default=[1, 16], help='inputs per product (default: 1 16)')
    add('--repeats', type=int, default=15, help='measurements per variant (default: 15)')
    add('--threads', type=int, default=torch.get_num_threads(), help='threads on a CPU (default: PyTorch\'s)')
    add('--output', type=Path, default=output, help='file to append to')
    return parser.parse_args()


def main():
    args = parsed()
    if args.device == 'cuda' and not torch.cuda.is_available():
        sys.exit('no CUDA device here: nothing was measured')
    torch.set_num_threads(args.threads)
    memory, c = memory_speed(args.device), args.device == 'cpu' and kernels_c.works('cpu')
    common = dict(study='kernels', command=' '.join(['python scripts/bench_kernels.py', *sys.argv[1:]]),
                  hardware=hardware(args.device).split(',')[0], device=args.device, threads=args.threads,
                  instructions=kernels_c.instruction_sets()[-1] if c else None,
                  processor=instructions(), memory_gb_per_second=memory/1e9,
                  versions=versions() | installed('triton', 'llama-cpp-python'))
    print(f'{common["hardware"]}, {args.threads} threads, kernels: {common["instructions"]}, '
          f'PyTorch: {common["processor"]["torch"]}')
    for size, batch in itertools.product(args.sizes, args.batches):
        load = os.getloadavg()[0]
        found = measure(size, batch, args.device, args.repeats, memory)
        show(found)
        now = datetime.now(timezone.utc).isoformat(timespec='seconds')
        append_record(args.output, common | dict(load_before=load) | found | dict(date=now))


if __name__ == '__main__':
    main()
