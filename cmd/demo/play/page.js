// The page shows the state that the demo sends, whole, whenever it changes.
// Text from outside only ever becomes text nodes.

const $ = (id) => document.getElementById(id);
let state = null;
let me = new URLSearchParams(location.search).get('as') || 'U0ANA';
let stream = null;
const dismissed = new Set();
const toggled = new Map(); // job logs that somebody opened or closed
let place = 'channel'; // or home
let chosen = null; // the card whose thread is shown beside the channel
const desk = matchMedia('(min-width: 56rem)'); // the channel scrolls by itself, the newest below
const wide = matchMedia('(min-width: 80rem)'); // the thread has a place of its own

// el builds an element: props are properties, strings among the children are text.
function el(tag, props, ...children) {
  const e = document.createElement(tag);
  const { aria = {}, ...rest } = props ?? {};
  Object.assign(e, rest);
  for (const [name, value] of Object.entries(aria)) e.setAttribute('aria-' + name, value);
  e.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== ''));
  return e;
}

// keyed brings a list up to date and touches only what changed, so that focus and selection stay.
function keyed(list, items, key, render) {
  const old = new Map([...list.children].map((e) => [e.dataset.key, e]));
  const next = items.map((item) => {
    const k = key(item), seen = JSON.stringify(item), was = old.get(k);
    old.delete(k);
    if (was && was.seen === seen) return was;
    const focus = was?.contains(document.activeElement) ? document.activeElement.dataset.act : null;
    const e = render(item);
    e.dataset.key = k;
    e.seen = seen;
    if (list.seenBefore) e.classList.add('fresh');
    was?.replaceWith(e);
    if (focus) [...e.querySelectorAll('button')].find((b) => b.dataset.act === focus)?.focus();
    return e;
  });
  old.forEach((e) => e.remove());
  next.forEach((e, i) => { if (list.children[i] !== e) list.insertBefore(e, list.children[i] ?? null); });
  list.seenBefore = true;
}

// --- what people do ---

async function act(name, what = {}) {
  let answer;
  try {
    const r = await fetch('do/' + name, { method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify({ as: me, ...what }) });
    answer = await r.json();
  } catch {
    answer = { error: 'The demo does not answer. Is it still running?' };
  }
  trouble(answer.error);
  return answer;
}

function trouble(text) {
  const inView = $('modal').open && $('view').querySelector('#view-trouble');
  const place = inView || $('trouble');
  place.textContent = text ?? '';
  $('trouble').hidden = !$('trouble').textContent;
}

// button does an act, and does nothing more until it is done. It is not disabled
// meanwhile: that would take the focus away.
function button(label, className, name, what) {
  const b = el('button', { type: 'button', className }, label);
  b.dataset.act = name + (what.action ?? '') + (what.job ?? '');
  let busy = false;
  b.onclick = async () => {
    if (busy) return;
    busy = true;
    await act(name, what);
    busy = false;
  };
  return b;
}

// --- Slack's text ---

const entities = (s) => s.replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&');
const who = (id) => el('span', { className: 'mention' }, '@' + (state.people.find((p) => p.id === id)?.name ?? id));

// link leads to the pipeline on this page; the code host is not part of the demo.
function link(url, label, className = 'link') {
  const pipeline = /\/pipelines\/.*\/(\d+)\/workflows\//.exec(url);
  if (!pipeline) return el('span', { className, title: 'Would open ' + url }, label);
  const a = el('a', { className, href: '#pipeline-' + pipeline[1], title: url }, label);
  a.onclick = (event) => {
    event.preventDefault();
    const target = $('pipeline-' + pipeline[1]);
    target?.scrollIntoView({ block: 'center', behavior: 'smooth' });
    target?.classList.add('looked-at');
    setTimeout(() => target?.classList.remove('looked-at'), 1500);
  };
  return a;
}

function date(seconds, format, fallback) {
  const at = new Date(seconds * 1000);
  if (Number.isNaN(at.valueOf())) return fallback;
  const days = Math.round((new Date(at).setHours(0, 0, 0, 0) - new Date().setHours(0, 0, 0, 0)) / 864e5);
  const day = { '-1': 'yesterday', 0: 'today', 1: 'tomorrow' }[days] ?? at.toLocaleDateString('en', { month: 'short', day: 'numeric' });
  const time = at.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' });
  const text = format.replace(/\{date[a-z_]*\}/g, day).replace(/\{time[a-z_]*\}/g, time);
  return el('time', { dateTime: at.toISOString(), title: fallback ?? '' }, text);
}

// mrkdwn reads what the bot uses of Slack's markup: <…>, *bold*, `code`, and the three entities.
// Source: https://docs.slack.dev/messaging/formatting-message-text
function mrkdwn(text) {
  const out = document.createDocumentFragment();
  const token = /<([^<>\n]+)>|(?<![\w*])\*(?![\s*\u2060])([^*\n]+)\*(?!\w)|`(?!\u2060)([^`\n]+)`/g;
  let end = 0;
  for (const m of text.matchAll(token)) {
    out.append(entities(text.slice(end, m.index)));
    end = m.index + m[0].length;
    if (m[2]) out.append(el('strong', {}, mrkdwn(m[2])));
    else if (m[3]) out.append(el('code', {}, entities(m[3])));
    else out.append(live(m[1]));
  }
  out.append(entities(text.slice(end)));
  return out;
}

function live(inside) {
  const [target, label] = inside.split(/\|(.*)/s);
  if (/^@[UW]/.test(target)) return who(target.slice(1));
  const [kind, ...rest] = target.split('^');
  if (kind === '!date') return date(Number(rest[0]), rest[1] ?? '', entities(label ?? ''));
  if (/^https?:/.test(target)) return link(entities(target), entities(label ?? target));
  return el('span', { className: 'mention' }, entities(label ?? target));
}

const textOf = (o) => (o ? (o.type === 'mrkdwn' ? mrkdwn(o.text) : o.text) : '');

function rich(e) {
  switch (e.type) {
    case 'text': return e.style?.code ? el('code', {}, e.text) : e.style?.bold ? el('strong', {}, e.text) : e.text;
    case 'link': return link(e.url, e.text ?? e.url);
    case 'user': return who(e.user_id);
    case 'usergroup': return el('span', { className: 'mention' }, '@' + e.usergroup_id);
    case 'date': return date(e.timestamp, e.format, e.fallback);
  }
  return e.elements ? el('div', {}, e.elements.map(rich)) : `[${e.type}]`;
}

// block renders one block. Source: https://docs.slack.dev/reference/block-kit/blocks
function block(b, message) {
  switch (b.type) {
    case 'header': return el('div', { className: 'card-title', role: 'heading', ariaLevel: '3' }, textOf(b.text));
    case 'divider': return el('hr');
    case 'context': return el('div', { className: 'context' }, b.elements.map((e) => el('span', {}, textOf(e))));
    case 'rich_text': return el('div', { className: 'text' }, b.elements.map(rich));
    case 'section': return el('div', { className: 'text' }, [b.text, ...(b.fields ?? [])].filter(Boolean).map((t) => el('div', {}, textOf(t))));
    case 'actions': return el('div', { className: 'row' }, b.elements.map((e) => e.url ? link(e.url, textOf(e.text), 'link-button')
      : button(textOf(e.text), e.style ?? '', 'click', { ts: message.ts, action: e.action_id })));
    case 'input': return input(b);
  }
  return el('div', { className: 'soft' }, `[${b.type}]`);
}

function input(b) {
  const id = 'input-' + b.block_id, e = b.element;
  const field = el(e.multiline ? 'textarea' : 'input', { id, name: b.block_id, autocomplete: 'off', aria: { describedby: id + '-hint ' + id + '-wrong' } });
  if (e.max_length) field.maxLength = e.max_length;
  if (b.block_id === 'totp') field.inputMode = 'numeric';
  field.dataset.action = e.action_id;
  field.autofocus = Boolean(e.focus_on_load);
  return el('div', {}, el('label', { htmlFor: id }, textOf(b.label)), field,
    el('div', { className: 'wrong', id: id + '-wrong', role: 'alert' }), el('div', { className: 'context', id: id + '-hint' }, textOf(b.hint)));
}

// --- the channel ---

function showChannel() {
  const list = $('messages'), home = place === 'home';
  $('channel').hidden = home;
  $('home').hidden = !home;
  for (const name of ['channel', 'home']) $('to-' + name).setAttribute('aria-current', String(name === place));
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  const cards = state.messages.filter((m) => !m.thread_ts).map((m) => ({ ...m, replies: state.messages.filter((r) => r.thread_ts === m.ts) }));
  const mine = state.private.filter((m) => !dismissed.has(m.ts)).map((m) => ({ ...m, private: true }));
  const card = cards.find((m) => m.ts === chosen) ?? cards.at(-1);
  $('thread').hidden = home || !wide.matches || !card;
  const items = [...cards, ...mine].map((m) => ({ ...m, inline: !wide.matches, chosen: wide.matches && cards.length > 1 && m.ts === card?.ts }));
  keyed(list, desk.matches ? items : items.toReversed(), (m) => m.ts + (m.private ? me : ''), message);
  if (atEnd && desk.matches) list.scrollTop = list.scrollHeight;
  keyed($('replies'), card ? [{ ...card, replies: [] }, ...card.replies] : [], (m) => m.ts, message);
  keyed($('direct'), state.direct.toReversed(), (m) => m.ts, message);
  const view = state.home ? state.home.blocks.map((b) => block(b, {})) : [el('p', { className: 'soft' }, 'The app has not answered yet.')];
  if ($('home-view').seen !== JSON.stringify(state.home)) $('home-view').replaceChildren(...view);
  $('home-view').seen = JSON.stringify(state.home);
}

function message(m) {
  const body = m.blocks?.length ? m.blocks.map((b) => block(b, m)) : el('div', { className: 'text' }, mrkdwn(m.text));
  const name = state.people.find((p) => p.id === m.user)?.name ?? 'Rack Gateway', app = m.bot_id || name === 'Rack Gateway';
  const from = el('div', { className: 'from' }, name, app ? el('span', { className: 'app' }, 'APP') : '', date(Number(m.ts), '{time}', ''));
  if (m.private) {
    const hide = el('button', { type: 'button', className: 'plain' }, 'Dismiss');
    hide.onclick = () => { dismissed.add(m.ts); showChannel(); };
    from.append(el('small', {}, 'Only visible to you'), hide);
  }
  const content = el('div', { className: 'body' }, from, body);
  if (m.replies?.length) content.append(m.inline ? el('ol', { className: 'inline', ariaLabel: 'Thread' }, m.replies.map(message)) : threadButton(m));
  return el('li', { className: 'message' + (m.private ? ' private' : '') + (m.chosen ? ' chosen' : '') },
    el('span', { className: 'avatar' + (app ? ' app-icon' : ''), ariaHidden: 'true' }, name[0]), content);
}

function threadButton(m) {
  const b = el('button', { type: 'button', className: 'plain' }, m.replies.length === 1 ? '1 reply' : `${m.replies.length} replies`);
  b.onclick = () => { chosen = m.ts; showChannel(); };
  return el('div', {}, b);
}

$('to-channel').onclick = () => { place = 'channel'; showChannel(); };
$('to-home').onclick = async () => { place = 'home'; showChannel(); await act('home'); };
desk.onchange = wide.onchange = () => {
  if (!state) return;
  showChannel();
  if (desk.matches) $('messages').scrollTop = $('messages').scrollHeight;
};

$('slash').onsubmit = async (event) => {
  event.preventDefault();
  const { error } = await act('slash', { text: $('command').value || 'help' });
  if (error) return;
  $('command').value = '';
  if (!desk.matches) scrollTo(0, 0); // the answer is the newest, and comes first there
};

// --- the modal ---

function showView() {
  const v = state.view, dialog = $('modal'), now = v ? me + v.id + v.hash : '';
  if ((dialog.shown ?? '') === now) return;
  const was = dialog.shown;
  dialog.shown = now;
  if (!v) {
    dialog.close();
    $('desk').append($('authenticator'), $('nodes'));
    if (was && document.activeElement === document.body) $('messages').focus({ preventScroll: true }); // the button is gone
    return;
  }
  const cancel = el('button', { type: 'button' }, v.close || 'Close');
  cancel.onclick = () => act('close');
  $('view').replaceChildren(el('h2', { id: 'view-title' }, v.title), ...v.blocks.map((b) => block(b, {})),
    el('div', { className: 'wrong', id: 'view-trouble', role: 'alert' }),
    el('div', { className: 'row' }, cancel, v.submit ? el('button', { className: 'primary' }, v.submit) : ''));
  // The code generator lies beside the window, as a phone does, and so do the machines.
  $(codeField() ? 'pocket' : 'desk').append($('authenticator'), $('nodes'));
  if (!dialog.open) dialog.showModal();
  $('view').querySelector('[autofocus], button')?.focus();
}

const fields = () => [...$('view').querySelectorAll('input, textarea')];
const codeField = () => fields().find((f) => f.name === 'totp');

$('view').onsubmit = async (event) => {
  event.preventDefault();
  const submit = event.submitter ?? $('view').querySelector('.primary');
  if (!submit || submit.disabled) return;
  submit.disabled = true;
  const values = {};
  for (const f of fields()) values[f.name] = { [f.dataset.action]: f.value };
  const { fields: wrong = {} } = await act('submit', { view: state.view?.id, values });
  for (const f of fields()) {
    $(f.id + '-wrong').textContent = wrong[f.name] ?? '';
    wrong[f.name] ? f.setAttribute('aria-invalid', 'true') : f.removeAttribute('aria-invalid');
  }
  const first = fields().find((f) => wrong[f.name]);
  first?.focus();
  first?.select();
  submit.disabled = false;
};
$('modal').oncancel = (event) => { event.preventDefault(); act('close'); };

// --- the authenticator ---

function showCode() {
  $('authenticator-title').textContent = `${state.me.name}’s authenticator`;
  $('has-code').hidden = !state.code;
  $('no-code').hidden = Boolean(state.code);
  $('no-code').textContent = `${state.me.name} has none${state.simulators ? ' yet' : ': only admins do'}.`;
  $('scan').hidden = !state.simulators;
  $('code').textContent = state.code.replace(/(...)(...)/, '$1 $2');
  $('type').hidden = !codeField() || !state.view;
  tick();
}

function tick() {
  if (!state) return;
  const left = Math.max(0, Math.ceil((state.until - Date.now()) / 1000));
  $('clock').value = left;
  $('left').textContent = `${left} s`;
}
setInterval(tick, 1000);
$('type').onclick = () => { const f = codeField(); if (f) { f.value = state.code; f.focus(); } };
$('copy').onclick = async () => {
  await navigator.clipboard?.writeText(state.code).catch(() => {});
  $('copy').textContent = 'Copied';
  setTimeout(() => { $('copy').textContent = 'Copy'; }, 1500);
};

$('scan').onsubmit = async (event) => {
  event.preventDefault();
  const { error } = await act('scan', { text: $('secret').value });
  if (!error) $('secret').value = '';
};

// --- CircleCI ---

const signs = { success: '✓', failed: '✗', canceled: '✗', running: '●', on_hold: '‖' };
const status = (s) => el('span', { className: 'status ' + s }, (signs[s] ? signs[s] + ' ' : '') + s.replaceAll('_', ' '));

function pipeline(p) {
  const title = el('div', {}, el('strong', {}, p.subject), ' ', el('div', { className: 'soft' }, `pipeline ${p.number} · ${p.branch}@${p.revision.slice(0, 7)} · pushed by ${p.actor}`));
  return el('li', { id: 'pipeline-' + p.number }, title, p.workflows.toReversed().map(workflow));
}

function workflow(w) {
  const ended = Boolean(w.stopped_at);
  return el('div', { className: 'workflow' },
    el('div', { className: 'row' }, 'workflow ' + w.name, status(w.status), w.canceled_by ? el('small', {}, 'by ' + w.canceled_by) : '',
      ended ? button('Rerun', 'small', 'rerun', { workflow: w.id }) : button('Cancel workflow', 'small', 'cancel', { workflow: w.id })),
    el('ol', { className: 'jobs' }, w.jobs.map((j) => job(w.id, j))));
}

function job(id, j) {
  const what = { workflow: id, job: j.name }, run = state.jobs.find((r) => r.workflow === id && r.job === j.name);
  const hands = [];
  if (j.status === 'running' && run?.by_hand) hands.push(button('Succeed', 'small', 'finish', what), button('Fail', 'small', 'fail', what));
  else if (j.status === 'running') hands.push(button('Stop it', 'small', 'fail', what));
  if (j.status === 'on_hold') hands.push(button('Approve here, as mallory', 'small', 'bypass', what));
  const by = j.approved_by ? 'approved by ' + j.approved_by : j.canceled_by ? 'by ' + j.canceled_by : '';
  return el('li', { className: j.type === 'approval' ? 'gate' : j.status === 'failed' ? 'failed' : '' }, el('span', {}, j.name), status(j.status),
    by ? el('small', {}, by) : '', hands.length ? el('span', { className: 'row' }, hands) : '', run ? log(run, j.status) : '');
}

// log is what a job printed. It is open while the job runs, and when it failed.
function log(run, status) {
  const key = run.workflow + run.job, ends = run.ended && run.code;
  const d = el('details', { open: toggled.get(key) ?? (status === 'running' || status === 'failed') },
    el('summary', {}, 'Log'),
    el('pre', { tabIndex: 0 }, el('b', {}, '$ ' + run.line), '\n' + run.output.trimEnd(), ends ? el('em', {}, `\nExited with code ${run.code}`) : ''),
    run.receipt ? el('details', {}, el('summary', {}, 'receipt.json'), el('pre', { tabIndex: 0 }, run.receipt.trimEnd())) : '');
  d.firstElementChild.onclick = () => toggled.set(key, !d.open);
  return d;
}

// --- the daemons ---

function machine(n) {
  const b = n.works ? button('kill -9', 'small', 'kill', { node: n.node }) : button('Start again', 'small', 'revive', { node: n.node });
  b.setAttribute('aria-label', `${b.textContent} ${n.name}`);
  return el('li', { className: n.works ? '' : 'failed' }, el('span', {}, n.name), status(n.works ? 'running' : 'killed'), el('span', { className: 'row' }, b));
}

$('push').onclick = () => act('push');
$('api').onclick = () => act('api');
$('context').onsubmit = (event) => {
  event.preventDefault();
  act('context', { url: $('url').value || $('url').placeholder, token: $('token').value });
};

// --- all of it ---

// guide says what to do next about the newest pipeline.
function guide() {
  const dead = state.nodes.filter((n) => !n.works).map((n) => n.name);
  if (dead.length && dead.length === state.nodes.length) return 'Both nodes are dead: nobody can approve. Nothing is lost; start one again.';
  const p = state.pipelines.at(-1), w = p?.workflows.at(-1), name = state.me.name;
  if (state.simulators && !state.connected) return 'No rack-gatewayd is connected. Start yours with the variables that the terminal shows.';
  if (!w && state.url) return 'The context has the gateway’s address and a token. Choose Alice above and push a commit: nobody may approve their own.';
  if (!w) return state.simulators ? 'Your rack-gatewayd is connected. Put the gateway’s address and a token into the context, then push a commit.' : 'Nothing was pushed yet.';
  if (state.jobs.some((j) => j.workflow === w.id && j.by_hand && !w.stopped_at && w.jobs.some((x) => x.name === j.job && x.status === 'running'))) return 'The context is empty: run the command of the job in your own terminal, then say here how the job ended.';
  const jobs = Object.fromEntries(w.jobs.map((j) => [j.name, j]));
  const gate = w.jobs.find((j) => j.type === 'approval');
  const card = state.messages.findLast((m) => m.metadata?.event_type === 'deploy_approval_request');
  const pusher = state.people.find((x) => x.login === p.actor)?.name ?? p.actor;
  const open = card?.blocks.some((b) => b.type === 'actions' && b.elements.some((e) => e.action_id === 'approve'));
  if (gate.status === 'success' && gate.approved_by !== 'rack-gateway-bot') return jobs.deploy.status === 'running' ? `${gate.approved_by} opened the gate in CircleCI, past the bot. The deploy job starts, and asks the gateway whether it may.`
    : jobs.deploy.status === 'failed' ? `${gate.approved_by} opened the gate in CircleCI, past the bot. The deploy job asked, got no, and ended red: nothing was deployed. See its log and the card.` : `${gate.approved_by} opened the gate in CircleCI, past the bot. The card says so.`;
  if (jobs.deploy.status === 'success') return 'Deployed. The thread keeps the whole story. Next: push a commit, then try a wrong code, Carl, a reject, or mallory in CircleCI.';
  if (jobs.deploy.status === 'failed') return 'The deploy failed. The card says so. Push another commit, or rerun the workflow.';
  if (gate.status === 'success') return 'The gate is open: the gateway approved it in CircleCI, and the deploy runs.';
  if (w.stopped_at) return 'This one is over. Push another commit, or rerun the workflow.';
  if (!state.jobs.some((j) => j.workflow === w.id)) return 'CircleCI runs the jobs before the gate.';
  if (!open && !card?.text.startsWith('Approved')) return 'This request is closed. Push another commit.';
  if (!open) return 'Decided. The gateway opens the gate as soon as CircleCI reaches it.';
  if (p.actor === state.me.login) return `${name} pushed this commit, so somebody else has to approve it. Press Approve deploy and see, then be someone else.`;
  if (!state.code) return `${name} has no authenticator. Press Approve deploy and see, then be Ana or Bea.`;
  return `${pusher} wants to deploy, and the gate in CircleCI is shut. You are ${name}: press Approve deploy, then type in the code.`;
}

function show() {
  $('guide').textContent = guide();
  if (!$('people').querySelector('input')) $('people').append(...state.people.map(choice));
  showChannel();
  showView();
  showCode();
  $('push').textContent = `Push a commit as ${state.me.name}`;
  keyed($('pipelines'), state.pipelines.toReversed().map((p) => ({ ...p, logs: state.jobs.filter((j) => j.pipeline === p.number) })), (p) => p.id, pipeline);
  $('nodes').hidden = !state.nodes.length;
  keyed($('machines'), state.nodes.map((n, node) => ({ ...n, node })), (n) => n.name, machine);
  $('context').hidden = !state.simulators;
  if (state.url && document.activeElement !== $('url')) $('url').value = state.url;
}

function choice(p) {
  const radio = el('input', { type: 'radio', name: 'me', value: p.id, checked: p.id === me });
  radio.onchange = () => {
    me = p.id;
    history.replaceState(null, '', '?as=' + encodeURIComponent(me));
    connect();
  };
  return el('label', { title: p.about }, radio, p.name);
}

function connect() {
  stream?.close();
  stream = new EventSource('events?as=' + encodeURIComponent(me));
  stream.onmessage = (event) => {
    state = JSON.parse(event.data);
    if (lost) trouble(null);
    lost = false;
    show();
  };
  stream.onerror = () => { lost = true; trouble('No connection. If the demo has ended, start it again: go run ./cmd/demo'); };
}
let lost = false;
connect();
