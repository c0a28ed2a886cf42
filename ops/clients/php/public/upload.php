<?php

// The page on which a visitor sends files for an order or a style, and the four questions it asks while doing so:
//
//     GET  upload.php              the page
//     POST upload.php?do=ask       {kind, number, filename, size, type, once}  a signed form for one file
//     POST upload.php?do=confirm   {id}                                  "the file is in the bucket"
//     POST upload.php?do=status    {id}                                  what came of it; waits some seconds
//     POST upload.php?do=renew     {id}                                  a fresh form, when the former's time ran out
//
// The file itself goes from the browser straight to the bucket. Key and secret stay here.

declare(strict_types=1);

require __DIR__ . '/../Longshore.php';

// Written as your order and style numbers are. The first: letters and digits, with . _ / - and blanks between them.
const NUMBERS = [
    'order' => '~^[\p{L}\p{N}](?:[\p{L}\p{N} ._/-]{0,40}[\p{L}\p{N}])?$~Du',
    'style' => '~^[\p{L}\p{N}](?:[\p{L}\p{N} ._/-]{0,40}[\p{L}\p{N}])?$~Du',
];
// A visitor may ask about the newest so many uploads of their own.
const REMEMBERED = 1000;

/** Something to tell the visitor; the code is the HTTP status. */
final class Problem extends RuntimeException
{
}

header('X-Content-Type-Options: nosniff');
header('Referrer-Policy: no-referrer');
header('Cache-Control: no-store');
try {
    // Few tries: somebody is waiting for this page.
    $longshore = Longshore::fromEnvironment(attempts: 3);
    if ($_SERVER['REQUEST_METHOD'] === 'POST') {
        answer(200, act($longshore, (string) ($_GET['do'] ?? ''), body()));
    } else {
        page($longshore);
    }
} catch (Problem $problem) {
    fail($problem->getCode(), $problem->getMessage());
} catch (LongshoreException $error) {
    fail(...tell($error));
}

function page(Longshore $longshore): void
{
    // The bucket is another origin than ours, and the only other one that the page may talk to.
    $bucket = parse_url($longshore->config()['url']);
    $origin = "{$bucket['scheme']}://{$bucket['host']}" . (isset($bucket['port']) ? ":{$bucket['port']}" : '');
    remember();
    header('Content-Type: text/html; charset=utf-8');
    header("Content-Security-Policy: default-src 'self'; img-src data:; connect-src 'self' $origin; frame-ancestors 'none'");
    readfile(__DIR__ . '/page.html');
}

function act(Longshore $longshore, string $do, array $asked): array
{
    if ($do === 'ask') {
        $upload = $longshore->create(wish($asked), once($asked['once'] ?? null));
        remember($upload['id']);
        return shown($upload);
    }
    $id = own($asked['id'] ?? null);
    switch ($do) {
        case 'confirm':
            $longshore->confirm($id);
            return shown($longshore->status($id));
        case 'status':
            return shown($longshore->status($id, wait: 5));
        case 'renew':
            return shown($longshore->renew($id));
    }
    throw new Problem('There is nothing of that name.', 404);
}

/**
 * What the visitor may choose, and nothing else. A `sha256` is not among it: with the hash of a file that you have already,
 * anybody could attach that file to their own order without ever having seen it.
 */
function wish(array $asked): array
{
    $kind = $asked['kind'] ?? null;
    if (!is_string($kind) || !isset(NUMBERS[$kind])) {
        throw new Problem('Choose whether the files are for an order or a style.', 422);
    }
    $number = is_string($asked['number'] ?? null) ? trim($asked['number']) : '';
    if (!preg_match(NUMBERS[$kind], $number)) {
        throw new Problem("Type the $kind number as it is written on your papers, for example A-100.", 422);
    }
    // Your shop knows more: here is the place to ask whether this visitor may add files to this order.
    $filename = $asked['filename'] ?? null;
    $size = $asked['size'] ?? null;
    if (!is_string($filename) || !is_int($size)) {
        throw new Problem('A file needs a name and a size.', 422);
    }
    $wish = ['filename' => $filename, 'size' => $size, 'target' => ['kind' => $kind, 'number' => $number]];
    $type = $asked['type'] ?? null;
    return is_string($type) && $type !== '' ? $wish + ['type' => $type] : $wish;
}

/** By which a question is known again that is asked twice, since its answer got lost. Each visitor has their own. */
function once(mixed $once): string
{
    if (!is_string($once) || !preg_match('~^[0-9a-f]{32}$~D', $once)) {
        throw new Problem('The request cannot be read. Load the page again.', 422);
    }
    session();
    $visitor = session_id();
    session_write_close();
    return hash('sha256', "$visitor $once");
}

/** The part of an upload that the page needs. */
function shown(array $upload): array
{
    return [
        'id' => $upload['id'],
        'status' => $upload['status'],
        'reason' => $upload['reason'],
        'attention' => $upload['attention'] ?? false,
        'form' => $upload['upload'],
    ];
}

// ---- The visitor's session: which uploads are theirs

function session(): void
{
    session_start([
        'name' => 'uploads',
        'use_strict_mode' => true,
        'cookie_httponly' => true,
        'cookie_samesite' => 'Strict',
        'cookie_secure' => ($_SERVER['HTTPS'] ?? 'off') !== 'off',
    ]);
}

function remember(string ...$ids): void
{
    session();
    $uploads = array_unique([...($_SESSION['uploads'] ?? []), ...$ids]);
    $_SESSION['uploads'] = array_slice($uploads, -REMEMBERED);
    session_write_close();
}

/** The id, if it was given to this visitor. */
function own(mixed $id): string
{
    session();
    $own = is_string($id) && in_array($id, $_SESSION['uploads'] ?? [], true);
    // PHP lets one request of a session run at a time: without this, a long wait would hold up the visitor's other files.
    session_write_close();
    return $own ? $id : throw new Problem('This upload is not one of yours, or too long ago. Load the page again.', 404);
}

// ---- In and out

/** Only JSON: a form of another site could send anything else on the visitor's behalf. */
function body(): array
{
    if (!preg_match('~^application/json\b~i', $_SERVER['CONTENT_TYPE'] ?? '')) {
        throw new Problem('Send JSON.', 415);
    }
    $asked = json_decode((string) file_get_contents('php://input', length: 65536), true);
    return is_array($asked) ? $asked : throw new Problem('The request cannot be read.', 400);
}

function answer(int $status, array $told): void
{
    http_response_code($status);
    header('Content-Type: application/json');
    echo json_encode($told, JSON_THROW_ON_ERROR | JSON_UNESCAPED_UNICODE | JSON_UNESCAPED_SLASHES);
}

/** The page's script reads JSON, a visitor who opens the page does not. */
function fail(int $status, string $problem): void
{
    if ($_SERVER['REQUEST_METHOD'] === 'POST') {
        answer($status, ['problem' => $problem]);
        return;
    }
    http_response_code($status);
    header('Content-Type: text/plain; charset=utf-8');
    echo $problem;
}

/** What a visitor should know of an error; the rest is for your log. */
function tell(LongshoreException $error): array
{
    $status = $error instanceof LongshoreRefusal ? $error->status : 503;
    if ($status === 422) {
        return [422, $error->getMessage()];
    }
    error_log("longshore: {$error->getMessage()}" . ($status === 503 ? '' : " (HTTP $status)"));
    return match ($status) {
        401, 403 => [502, 'The upload service does not accept the key of this site. Please tell the people who run it.'],
        429, 503 => [503, 'The upload service cannot be reached or is very busy. Please try again in a minute.'],
        default => [502, 'The upload service could not do this. Please try again later.'],
    };
}
