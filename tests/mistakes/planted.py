"""Mistakes that users make: the code, and what the message has to name.

Each is a file of its own; the line at fault ends in `# here`. `names` are the variables, and `fix`
the words of the remedy that the message must have. `raises` is None where the code is no mistake
and simply has to work: then `ok` is evaluated in the namespace of the file.
"""

from dataclasses import dataclass

HEAD = "import math\nimport numpy as np\nimport wengert as wg\nfrom wengert import nn, optim\n"


@dataclass(frozen=True)
class Mistake:
    name: str
    code: str
    raises: str | None = None
    names: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    ok: str = ""


M = Mistake
MISTAKES = [
    # ---- the tape
    M("in-place on a leaf", """
w = wg.tensor([1.0, 2.0], requires_grad=True)
w.name = "w"
w -= 0.1  # here
""", "LeafWriteError", ("w",), ("no_grad", "copy")),
    M("in-place on an unnamed leaf", """
weights = wg.tensor([1.0, 2.0], requires_grad=True)
weights *= 2.0  # here
""", "LeafWriteError", ("weights",), ("no_grad",)),
    M("an element of a leaf", """
weights = wg.tensor([1.0, 2.0], requires_grad=True)
weights[0] = 3.0  # here
""", "LeafWriteError", ("weights",), ("no_grad",)),
    M("a hidden state carried over", """
w = wg.tensor([[0.5]], requires_grad=True)
h = wg.ones(1, 1)
for _ in range(2):
    h = np.tanh(h @ w)
    loss = h.sum()
    loss.backward()  # here
""", "FreedError", ("loss",), ("detach()",)),
    M("a running loss", """
w = wg.tensor([1.0, 2.0], requires_grad=True)
total = 0.0
for _ in range(2):
    loss = (w * w).sum()
    total = total + loss
    total.backward()  # here
""", "FreedError", ("total",), ("detach()",)),
    M("backward twice", """
w = wg.tensor([1.0, 2.0], requires_grad=True)
loss = (w * w).sum()
loss.backward()
loss.backward()  # here
""", "FreedError", ("loss",), ("retain_graph=True",)),
    M("backward of an array", """
w = wg.tensor([1.0, 2.0], requires_grad=True)
per_example = w * w
per_example.backward()  # here
""", "NonScalarError", ("per_example",), ("per_example.mean().backward()",)),
    M("grad of an array", """
def f(x):
    return x * x
wg.grad(f)(np.ones(3))  # here
""", "NonScalarError", ("f",), ("np.sum", "wg.jacobian")),
    M("a complex loss", """
def f(z):
    return np.sum(z * z)
wg.grad(f)(np.ones(3, complex))  # here
""", "NonScalarError", ("f",), ("np.abs",)),
    M("a Python float for a loss", """
def f(x):
    return 3.0
wg.grad(f)(np.ones(3))  # here
""", "DisconnectedError", ("f", "x"), ("x",)),
    M("a loss of no tensor", """
x = np.ones(3)
loss = wg.tensor(x).sum()
loss.backward()  # here
""", "DisconnectedError", ("loss",), ("requires_grad=True",)),
    M("a value that came out of vmap's inside", """
kept = []
def f(x):
    kept.append(x)
    return x * 2
wg.vmap(f)(np.ones(3))
kept[0] + 1.0  # here
""", "LevelError", ("kept[0]",), ("return",)),
    M("backward inside a transform", """
w = wg.tensor([1.0, 2.0], requires_grad=True)
def f(x):
    loss = np.sum(w * x)
    loss.backward()  # here
    return loss
wg.vmap(f)(np.ones((3, 2)))
""", "LevelError", ("loss",), ("wg.grad",)),
    M("a buffer from the last call", """
buffer = wg.zeros(2)
def f(x):
    buffer[0] = x  # here
    return buffer.sum()
wg.grad(f)(1.0)
wg.grad(f)(2.0)
""", "LevelError", ("buffer",), ("inside the function",)),
    # ---- leaving the tape
    M("math.sin", """
x = wg.tensor(1.0, requires_grad=True)
y = math.sin(x)  # here
""", "TapeExitError", ("x",), ("np.sin(x)",)),
    M("float()", """
x = wg.tensor(1.0, requires_grad=True)
y = float(x)  # here
""", "TapeExitError", ("x",), ("x.item()",)),
    M("np.asarray", """
x = wg.tensor([1.0, 2.0], requires_grad=True)
y = np.asarray(x)  # here
""", "TapeExitError", ("x",), ("x.detach().numpy()",)),
    M("a list of tensors to np.array", """
a = wg.tensor(1.0, requires_grad=True)
y = np.array([a, a * 2])  # here
""", "TapeExitError", ("a",), ("np.stack([a, a * 2])",)),
    M("a NumPy buffer", """
x = wg.tensor(1.0, requires_grad=True)
buffer = np.zeros(3)
buffer[0] = x  # here
""", "ValueError", ("buffer[0]",), ("wg.zeros",)),
    M("an index", """
x = wg.tensor(1.0, requires_grad=True)
y = [10, 20, 30][x]  # here
""", "TapeExitError", ("x",), ("x.item()",)),
    M("int()", """
x = wg.tensor(2.0, requires_grad=True)
for i in range(int(x)):  # here
    pass
""", "TapeExitError", ("x",), ("x.item()",)),
    # ---- disconnected
    M("detach in the middle", """
def f(x):
    h = np.tanh(x).detach()  # here
    return np.sum(h * 2)
wg.grad(f)(np.ones(3))
""", "DisconnectedError", ("x", "np.tanh(x).detach()"), ("detach",)),
    M("numpy() in the middle", """
w = wg.tensor([1.0, 2.0], requires_grad=True)
h = np.tanh(w).numpy()  # here
loss = wg.tensor(h).sum()
loss.backward()
""", "DisconnectedError", ("loss", "np.tanh(w)"), ("numpy",)),
    M("item() in the middle", """
def f(x):
    return np.sum(x).item() * 2.0  # here
wg.grad(f)(np.ones(3))
""", "DisconnectedError", ("f", "np.sum(x).item()"), ("item()",)),
    M("no_grad left on", """
def f(x):
    with wg.no_grad():
        y = np.sum(x * x)
    return y
w = wg.tensor([1.0, 2.0], requires_grad=True)
with wg.no_grad():
    loss = np.sum(w * w)  # here
loss.backward()
""", "DisconnectedError", ("loss",), ("no_grad",)),
    M("an argmax loss", """
def f(x):
    return np.argmax(x) * 1.0  # here
wg.grad(f)(np.ones(3))
""", "DisconnectedError", ("f", "x", "np.argmax(x)"), ("softmax",)),
    M("an accuracy for a loss", """
def f(x):
    return np.mean(x > 0)  # here
wg.grad(f)(np.ones(3))
""", "DisconnectedError", ("f", "x > 0"), ("sigmoid",)),
    M("rounding", """
def f(x):
    return np.sum(np.round(x))  # here
wg.grad(f)(np.ones(3))
""", "DisconnectedError", ("f",), ("round",)),
    M("an integer cast", """
def f(x):
    return np.sum(x.astype(int) * 2)  # here
wg.grad(f)(np.ones(3))
""", "DisconnectedError", ("f", "x.astype(int)"), ("astype",)),
    M("an unused argument", """
def loss_of(params, x):
    return np.sum(x)
wg.grad(loss_of)(np.ones(3), np.ones(2))  # here
""", "DisconnectedError", ("loss_of", "params"), ("argnums",)),
    M("a parameter made by arithmetic", """
w = wg.tensor([1.0, 2.0], requires_grad=True) * 0.1
loss = (w * w).sum()
loss.backward()
w.grad[0]  # here
""", "GradientWarning", ("w",), ("detach().requires_grad_()",)),
    M("one of several arguments cast to integers", """
def f(p):
    w = p["w"].astype(int)  # here
    return np.sum(w * 2 + p["b"])
wg.grad(f)({"w": np.ones(3), "b": np.ones(3)})
""", "GradientWarning", ("p['w']", 'p["w"].astype(int)'), ("floating point",)),
    M("one of several arguments detached: asked for, so it works", """
def f(p):
    w = p["w"].detach()
    return np.sum(w * 2 + p["b"])
g = wg.grad(f)({"w": np.ones(3), "b": np.ones(3)})
""", None, ok="g['w'].tolist() == [0.0, 0.0, 0.0]"),
    # ---- arguments
    M("integers", """
def f(x):
    return np.sum(x * x)
n = np.array([1, 2, 3])
wg.grad(f)(n)  # here
""", "DTypeError", ("n", "int64[3]"), ("n.astype(float)",)),
    M("a Python integer", """
wg.grad(lambda x: x * x)(3)  # here
""", "DTypeError", ("x",), ("3.0",)),
    M("integers that require gradients", """
n = wg.tensor([1, 2], requires_grad=True)  # here
""", "DTypeError", ("int64[2]",), ("dtype=float",)),
    M("grad called at once", """
def f(x):
    return x * x
wg.grad(f, 3.0)  # here
""", "ArgumentError", ("f", "3.0"), ("wg.grad(f)(3.0)",)),
    M("an unknown argument", """
def f(x, y):
    return x * y
wg.grad(f, argnums=2)(1.0, 2.0)  # here
""", "ArgumentError", ("argnums 2",), ("0 to 1",)),
    M("grad of a number", """
wg.grad(3.0)  # here
""", "ArgumentError", ("3.0",), ("function",)),
    M("a string array", """
wg.tensor(np.array(["a", "b"]))  # here
""", "DTypeError", (), ("float",)),
    M("an object array", """
wg.grad(lambda x: np.sum(x))(np.array([1.0, None]))  # here
""", "DTypeError", ("x", "object"), ("float",)),
    M("rows of different lengths", """
rows = [[1.0, 2.0], [3.0]]
wg.tensor(rows)  # here
""", "ShapeError", ("[1]",), ("list",)),
    # ---- shapes
    M("matmul", """
features = wg.ones(2, 3)
w1 = wg.tensor(np.ones((4, 3)), requires_grad=True)
y = features @ w1  # here
""", "ShapeError", ("features", "w1", "float64[4, 3]"), (".T",)),
    M("np.matmul", """
features = wg.ones(2, 3)
w1 = wg.tensor(np.ones((4, 3)), requires_grad=True)
y = np.matmul(features, w1)  # here
""", "ShapeError", ("features", "w1"), (".T",)),
    M("broadcasting", """
batch = wg.tensor(np.ones((4, 3)), requires_grad=True)
offset = np.ones(4)
y = batch + offset  # here
""", "ShapeError", ("batch", "offset"), ("[:, None]",)),
    M("concatenate", """
a = wg.tensor(np.ones((2, 3)), requires_grad=True)
b = np.ones((2, 4))
y = np.concatenate([a, b])  # here
""", "ShapeError", ("a", "b"), ("axis=1",)),
    M("stack", """
first = wg.tensor(np.ones(3), requires_grad=True)
second = np.ones(4)
y = np.stack([first, second])  # here
""", "ShapeError", ("first", "second"), ()),
    M("reshape", """
images = wg.tensor(np.ones((6, 4)), requires_grad=True)
y = images.reshape(5, 5)  # here
""", "ShapeError", ("images", "24"), ("-1",)),
    M("a wrong axis", """
images = wg.tensor(np.ones((6, 4)), requires_grad=True)
y = images.sum(axis=2)  # here
""", "AxisError", ("images",), ("-2", "1")),
    M("an index out of range", """
images = wg.tensor(np.ones((6, 4)), requires_grad=True)
y = images[6]  # here
""", "AxisError", ("images",), ()),
    M("an assignment that does not fit", """
buffer = wg.zeros(2, 3)
row = wg.tensor(np.ones(4), requires_grad=True)
buffer[0] = row  # here
""", "ShapeError", ("buffer", "row"), ()),
    # ---- vmap
    M("a branch on a lane", """
def f(x):
    if x > 0:  # here
        return x
    return -x
wg.vmap(f)(np.array([1.0, -1.0]))
""", "LevelError", ("x > 0",), ("wg.where",)),
    M("axes of different lengths", """
images, labels = np.ones((5, 2)), np.ones(4)
wg.vmap(lambda a, b: a * b)(images, labels)  # here
""", "ArgumentError", ("argument 0", "5", "argument 1", "4"), ("in_axes",)),
    M("an axis that is not there", """
wg.vmap(np.sum, in_axes=2)(np.ones((3, 4)))  # here
""", "ArgumentError", ("axis 2",), ("0", "1")),
    # ---- losses
    M("(n, 1) against (n,)", """
prediction = wg.tensor(np.ones((5, 1)), requires_grad=True)
y = np.ones(5)
nn.functional.mse_loss(prediction, y)  # here
""", "ShapeError", ("prediction", "y"), ("prediction.squeeze(-1)",)),
    M("one-hot labels", """
logits = wg.tensor(np.zeros((5, 3)), requires_grad=True)
onehot = np.eye(3, dtype=int)[[0, 1, 2, 0, 1]]
wg.cross_entropy(logits, onehot)  # here
""", "ShapeError", ("logits", "labels", "onehot"), ("onehot.argmax(-1)",)),
    M("labels that are floats", """
logits = wg.tensor(np.zeros((5, 3)), requires_grad=True)
classes = np.array([0.0, 1.0, 2.0, 0.0, 1.0])
wg.cross_entropy(logits, classes)  # here
""", "DTypeError", ("logits", "labels", "classes"), ("astype(int)",)),
    M("labels out of range", """
logits = wg.tensor(np.zeros((2, 3)), requires_grad=True)
classes = np.array([1, 3])
wg.cross_entropy(logits, classes)  # here
""", "AxisError", ("labels", "classes"), ("0 to 2",)),
    M("labels of another length", """
logits = wg.tensor(np.zeros((2, 3)), requires_grad=True)
classes = np.array([1, 2, 0])
wg.cross_entropy(logits, classes)  # here
""", "ShapeError", ("logits", "labels", "classes"), ()),
    M("softmax before cross_entropy", """
scores = wg.tensor([[1.0, 2.0, 3.0], [0.5, 0.1, 0.2]], requires_grad=True)
wg.cross_entropy(wg.softmax(scores, axis=-1), np.array([0, 2]))  # here
""", "GradientWarning", ("logits",), ("softmax",)),
    M("probabilities of other labels, with one ignored", """
logits = wg.tensor(np.zeros((4, 3)), requires_grad=True)
classes = np.zeros((2, 4), int)
nn.CrossEntropyLoss(ignore_index=0)(logits, classes)  # here
""", "ShapeError", ("logits", "labels", "classes"), ()),
    M("a weight that makes a loss of all pairs", """
p, y, factors = np.full(5, 0.5), np.ones(5), np.ones((5, 1))
nn.functional.binary_cross_entropy(p, y, weight=factors)  # here
""", "ShapeError", ("weight", "factors"), ("factors.squeeze(-1)",)),
    M("the sum, as PyTorch had it once", """
loss = nn.MSELoss(size_average=False)  # here
""", "ArgumentError", ("size_average",), ('reduction="sum"',)),
    # ---- optimizers and modules
    M("the model for its parameters", """
model = nn.Linear(2, 1, rng=0)
optim.SGD(model, lr=0.1)  # here
""", "OptionError", ("model",), ("model.parameters()",)),
    M("results for parameters", """
w = wg.tensor([1.0], requires_grad=True)
optim.SGD([w * 1.0], lr=0.1)  # here
""", "OptionError", ("parameters[0]",), ("requires_grad_()",)),
    M("no parameters", """
optim.SGD([], lr=0.1)  # here
""", "OptionError", ("parameters",), ("model.parameters()",)),
    M("arrays for parameters", """
w = np.ones(3)
optim.SGD([w], lr=0.1)  # here
""", "OptionError", ("parameters[0]",), ("requires_grad=True",)),
    M("a learning rate of nan", """
model = nn.Linear(2, 1, rng=0)
optim.SGD(model.parameters(), lr=float("nan"))  # here
""", "OptionError", ("lr",), ("lr=",)),
    M("an array in a parameter's place", """
model = nn.Linear(2, 1, rng=0)
model.weight = np.ones((2, 1))  # here
""", "DTypeError", ("weight",), ("nn.Parameter",)),
    M("a parameter for a buffer", """
model, mine = nn.Linear(2, 1, rng=0), nn.Parameter([1.0, 2.0])
model.register_buffer("scale", mine)  # here
""", "DTypeError", ("scale", "float64[2]"), ("tensor.detach()",)),
    M("an array for a parameter, by name", """
model, mine = nn.Linear(2, 1, rng=0), np.ones(2)
model.register_parameter("scale", mine)  # here
""", "ArgumentError", ("scale", "float64[2]"), ("nn.Parameter(param)",)),
    M("a class for a module, by name", """
model = nn.Sequential()
model.add_module("act", nn.Tanh)  # here
""", "ArgumentError", ("act",), ("Tanh()",)),
    M("a weight that is missing", """
model = nn.Linear(2, 1, rng=0)
state = model.state_dict()
state.pop("bias")
model.load_state_dict(state)  # here
""", "UnknownNameError", ("bias",), ()),
    M("weights under another name", """
model = nn.Linear(2, 1, rng=0)
state = {"module." + k: v for k, v in model.state_dict().items()}
model.load_state_dict(state)  # here
""", "UnknownNameError", ("module.weight",), ("removeprefix('module.')",)),
    M("a weight that is transposed", """
model = nn.Linear(2, 3, rng=0)
state = model.state_dict()
state["weight"] = state["weight"].T
model.load_state_dict(state)  # here
""", "ShapeError", ("weight",), (".T",)),
    M("a layer of another width", """
model = nn.Linear(3, 2, rng=0)
features = np.ones((5, 4), np.float32)
model(features)  # here
""", "ShapeError", ("features", "weight"), ("Linear(4, 2)",)),
    M("a module without super().__init__", """
class Net(nn.Module):
    def __init__(self):
        self.w = nn.Parameter([1.0, 2.0])
    def forward(self, x):
        return np.sum(x * self.w)
net = Net()
""", None, ok="[n for n, _ in net.named_parameters()] == ['w']"),
    M("a step without a gradient", """
model = nn.Linear(2, 1, rng=0)
optimizer = optim.SGD(model.parameters(), lr=0.1)
optimizer.step()  # here
""", "GradientWarning", ("weight",), ("backward()",)),
    M("the gradient of a result", """
w = wg.tensor([1.0, 2.0], requires_grad=True)
h = w * 2
h.sum().backward()
h.grad  # here
""", "GradientWarning", ("h",), ("leaf",)),
    # ---- transforms
    M("a root of a number", """
x = np.ones(2)
wg.custom_root(3, x)  # here
""", "ArgumentError", ("custom_root(f, x0)",), ("f is a function, not 3",)),
    M("a system that is not square", """
x = np.ones(3)
wg.custom_linear_solve(lambda v: v[:2], x)  # here
""", "ShapeError", ("matvec(x)", "float64[2]", "float64[3]"), ("as many components",)),
    M("a negative ridge", """
a, b = np.eye(2), np.ones(2)
wg.ridge(a, b, -1.0)  # here
""", "ArgumentError", ("lam", "-1.0"), ("not negative",)),
    M("an unrolled number", """
wg.unroll(3, np.ones(2), 4)  # here
""", "ArgumentError", ("unroll(step", "step"), ("a function, not 3",)),
    M("straight through two functions", """
wg.straight_through(np.round, np.tanh)  # here
""", "ArgumentError", ("hard",), ("round(x)",)),
    M("a keyword of apply", """
class Scale(wg.autograd.Function):
    @staticmethod
    def forward(ctx, x, k):
        return x * k
    @staticmethod
    def backward(ctx, g):
        return g, None
Scale.apply(wg.tensor([1.0]), k=3)  # here
""", "ArgumentError", ("Scale.apply", "k"), ("Scale.apply(..., 3)",)),
    M("a function of two arguments", """
def cost(w, x):
    return np.sum((w - x) ** 2)
wg.grad(cost)(np.ones(2))  # here
""", "ArgumentError", ("grad(f)", "cost(w, x)"), ("missing a required argument: 'x'",)),
    M("a loop without a condition", """
wg.while_loop(True, lambda x: x + 1, 0.0)  # here
""", "ArgumentError", ("while_loop", "cond_fun"), ("a function, not True",)),
    M("one time", """
times = np.array([0.0, 1.0])
wg.odeint(lambda y, t: -y, np.ones(2), times[0])  # here
""", "ShapeError", ("times[0]",), ("a vector",)),
    M("a tolerance below 0", """
wg.odeint(lambda y, t: -y, 1.0, np.array([0.0, 1.0]), rtol=-1e-6)  # here
""", "ArgumentError", ("odeint", "rtol"), ("not below 0",)),
    M("a negative width", """
draw = wg.reparameterized("normal")
draw(0.0, -1.0)  # here
""", "ArgumentError", ("reparameterized('normal')", "std", "-1.0"), ("not negative",)),
    M("a singular equation", """
wg.custom_root(lambda x: x * x + 1.0, 0.0)  # here
""", "ConvergenceError", ("Newton",), ("another first guess",)),
    # ---- numbers
    M("log of 0", """
def f(p):
    return np.sum(np.log(p))  # here
with np.errstate(all="ignore"), wg.debug():
    wg.grad(f)(np.array([0.5, 0.0]))
""", "NonFiniteGradientError", ("p[1]",), ("np.maximum(p, 1e-12)",)),
    M("sqrt at 0", """
def distance(u):
    return np.sqrt(np.sum(u * u))  # here
with wg.debug():
    wg.grad(distance)(np.zeros(3))
""", "NonFiniteGradientError", ("u",), ("np.linalg.norm",)),
    M("an overflow in float32", """
def f(z):
    return np.log(np.sum(np.exp(z)))  # here
with np.errstate(all="ignore"), wg.debug():
    wg.grad(f)(np.array([100.0, 1.0], np.float32))
""", "NonFiniteGradientError", ("z[0]", "precision"), ("wg.logsumexp",)),
    # ---- what simply works
    M("the where trick", """
g = wg.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))(np.array([4.0, 0.0]))
""", None, ok="g.tolist() == [0.25, 0.0]"),
    M("an array changed after recording", """
x = wg.tensor([1.0, 2.0], requires_grad=True)
c = np.array([3.0, 4.0])
loss = (x * c).sum()
c[:] = 0.0
loss.backward()
""", None, ok="x.grad.tolist() == [3.0, 4.0]"),
    M("a result changed in place", """
x = wg.tensor([1.0, 2.0], requires_grad=True)
y = np.exp(x)
z = y * y
y += 1.0
z.sum().backward()
""", None, ok="np.allclose(x.grad.numpy(), 2 * np.exp([2.0, 4.0]))"),
    M("pickled and copied", """
import copy, pickle
w = wg.tensor([1.0, 2.0], requires_grad=True)
h = copy.deepcopy(w * 2.0)
v = pickle.loads(pickle.dumps(w))
""", None, ok="v.requires_grad and h.requires_grad and h.tolist() == [2.0, 4.0]"),
    M("a parameter shared by two modules", """
a, b = nn.Linear(2, 2, bias=False, rng=0), nn.Linear(2, 2, bias=False, rng=1)
b.weight = a.weight
model = nn.Sequential(a, b)
x = np.ones((1, 2), np.float32)
model(x).sum().backward()
""", None, ok="len(model.parameters()) == 1 and a.weight.grad is not None"),
    M("the kink of relu", """
g = wg.grad(lambda x: wg.relu(x))(0.0)
""", None, ok="g == 0.0"),
    M("equal floats", """
x = wg.tensor([1.0, 2.0], requires_grad=True)
same = x == 1.0
""", None, ok="same.tolist() == [True, False]"),
]  # fmt: skip
