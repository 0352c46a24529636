// The page shows the state that the demo sends, whole, whenever it changes.
// Text from outside only ever becomes text nodes.

const $ = (id) => document.getElementById(id);
let state = null;
let me = new URLSearchParams(location.search).get('as') || 'U0ANA';
let stream = null;
const dismissed = new Set();

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
  const list = $('messages');
  const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 60;
  const items = [];
  for (const m of state.messages.filter((m) => !m.thread_ts)) {
    items.push(m);
    const replies = state.messages.filter((r) => r.thread_ts === m.ts);
    if (replies.length) items.push({ ts: m.ts + '-thread', replies: replies.length }, ...replies);
  }
  items.push(...state.private.filter((m) => !dismissed.has(m.ts)).map((m) => ({ ...m, private: true })));
  keyed(list, items, (m) => m.ts + (m.private ? me : ''), message);
  if (atEnd) list.scrollTop = list.scrollHeight;
}

function message(m) {
  if (m.replies) return el('li', { className: 'thread' }, m.replies === 1 ? 'Thread · 1 reply' : `Thread · ${m.replies} replies`);
  const body = m.blocks?.length ? m.blocks.map((b) => block(b, m)) : el('div', { className: 'text' }, mrkdwn(m.text));
  if (m.thread_ts && !m.private) return el('li', { className: 'reply' }, body);
  const from = el('div', { className: 'from' }, state.people.find((p) => p.id === m.user)?.name ?? 'Rack Gateway', m.bot_id ? el('span', { className: 'app' }, 'APP') : '',
    el('small', {}, date(Number(m.ts), '{time}', '')));
  if (!m.private) return el('li', { className: 'card' }, from, body);
  from.append(el('small', {}, 'Only visible to you'));
  const hide = el('button', { type: 'button', className: 'small' }, 'Dismiss');
  hide.onclick = () => { dismissed.add(m.ts); showChannel(); };
  from.append(hide);
  return el('li', { className: 'private' }, from, body);
}

$('slash').onsubmit = async (event) => {
  event.preventDefault();
  const { error } = await act('slash', { text: $('command').value || 'help' });
  if (!error) $('command').value = '';
};

// --- the modal ---

function showView() {
  const v = state.view, dialog = $('modal'), now = v ? me + v.id + v.hash : '';
  if (dialog.shown === now) return;
  dialog.shown = now;
  if (!v) {
    dialog.close();
    $('desk').append($('authenticator'));
    if (document.activeElement === document.body) $('messages').focus({ preventScroll: true }); // the button is gone
    return;
  }
  const cancel = el('button', { type: 'button' }, v.close || 'Close');
  cancel.onclick = () => act('close');
  $('view').replaceChildren(el('h2', { id: 'view-title' }, v.title), ...v.blocks.map((b) => block(b, {})),
    el('div', { className: 'wrong', id: 'view-trouble', role: 'alert' }),
    el('div', { className: 'row' }, cancel, v.submit ? el('button', { className: 'primary' }, v.submit) : ''));
  // The code generator lies beside the window, as a phone does.
  $(codeField() ? 'pocket' : 'desk').append($('authenticator'));
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
  $('no-code').textContent = `${state.me.name} has none: only admins do.`;
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
  const what = { workflow: id, job: j.name };
  const hands = [];
  if (j.status === 'running') hands.push(button('Finish now', 'small', 'finish', what), button('Fail', 'small', 'fail', what));
  if (j.status === 'on_hold') hands.push(button('Approve here, as mallory', 'small', 'bypass', what));
  const by = j.approved_by ? 'approved by ' + j.approved_by : j.canceled_by ? 'by ' + j.canceled_by : '';
  return el('li', { className: j.type === 'approval' ? 'gate' : '' }, el('span', {}, j.name), status(j.status), by ? el('small', {}, by) : '', hands.length ? el('span', { className: 'row' }, hands) : '');
}

$('push').onclick = () => act('push');

function run(c) {
  return el('li', {}, el('small', {}, `Pipeline ${c.pipeline}`), el('pre', { tabIndex: 0 }, el('b', {}, '$ ' + c.line), '\n' + c.output.trimEnd() + (c.code ? `\nExited with code ${c.code}` : '')));
}

// --- all of it ---

// guide says what to do next about the newest pipeline.
function guide() {
  const p = state.pipelines.at(-1), w = p?.workflows.at(-1), name = state.me.name;
  if (!w) return 'Nothing was pushed yet.';
  const jobs = Object.fromEntries(w.jobs.map((j) => [j.name, j]));
  const gate = w.jobs.find((j) => j.type === 'approval');
  const card = state.messages.findLast((m) => m.metadata?.event_type === 'deploy_approval_request');
  const pusher = state.people.find((x) => x.login === p.actor)?.name ?? p.actor;
  const open = card?.blocks.some((b) => b.type === 'actions' && b.elements.some((e) => e.action_id === 'approve'));
  if (gate.status === 'success' && gate.approved_by !== 'rack-gateway-bot') return `${gate.approved_by} opened the gate without anybody’s approval here. The card and the log say so.`;
  if (jobs.deploy.status === 'success') return 'Deployed. The thread keeps the whole story. Next: push a commit, then try a wrong code, Carl, a reject, or mallory in CircleCI.';
  if (gate.status === 'success') return 'The gate is open: the gateway approved it in CircleCI, and the deploy runs.';
  if (w.stopped_at) return 'This one is over. Push another commit, or rerun the workflow.';
  if (!state.commands.some((c) => c.workflow === w.id)) return 'CircleCI runs the jobs before the gate.';
  if (!open && !card?.text.startsWith('Approved')) return 'This request is closed. Push another commit.';
  if (!open) return 'Decided. The gateway opens the gate as soon as CircleCI reaches it.';
  if (p.actor === state.me.login) return `${name} pushed this commit, so somebody else has to approve it. Press Approve deploy and see, then be someone else.`;
  if (!state.code) return `${name} is no admin. Press Approve deploy and see, then be Ana or Bea.`;
  return `${pusher} wants to deploy, and the gate in CircleCI is shut. You are ${name}: press Approve deploy, then type in the code.`;
}

function show() {
  $('guide').textContent = guide();
  if (!$('people').querySelector('input')) $('people').append(...state.people.map(choice));
  showChannel();
  showView();
  showCode();
  $('push').textContent = `Push a commit as ${state.me.name}`;
  keyed($('pipelines'), state.pipelines.toReversed(), (p) => p.id, pipeline);
  keyed($('terminal'), state.commands.toReversed(), (c) => c.workflow, run);
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
