#!/usr/bin/env php
<?php

// Uploads files of this machine's disk:  php send.php --order A-100 FILE...   or   --style S-7 FILE...

declare(strict_types=1);

require __DIR__ . '/Longshore.php';

function usage(string $message): never
{
    fwrite(STDERR, "$message\nusage: php send.php --order NUMBER | --style NUMBER [--sha256 HEX] FILE...\n");
    exit(2);
}

$options = getopt('', ['order:', 'style:', 'sha256:'], $next);
$paths = array_slice($argv, $next);
$target = match (true) {
    is_string($options['order'] ?? null) => ['kind' => 'order', 'number' => $options['order']],
    is_string($options['style'] ?? null) => ['kind' => 'style', 'number' => $options['style']],
    default => usage('say --order NUMBER or --style NUMBER, before the files'),
};
$sha256 = $options['sha256'] ?? null;
if ($paths === []) {
    usage('no file is given');
}
if ($sha256 !== null && count($paths) > 1) {
    usage('--sha256 is for one file');
}
try {
    $longshore = Longshore::fromEnvironment();
} catch (LongshoreException $error) {
    usage($error->getMessage());
}

$failed = false;
foreach ($paths as $path) {
    try {
        $upload = $longshore->upload($path, $target, $sha256);
        $note = $upload['deduplicated'] ? '  (these bytes were known)' : '';
        echo "done   $path  file {$upload['fileId']}  {$upload['hash']}$note\n";
    } catch (LongshoreException $error) {
        $failed = true;
        $status = $error instanceof LongshoreRefusal ? " (HTTP $error->status)" : '';
        fwrite(STDERR, "failed $path: {$error->getMessage()}$status\n");
    }
}
exit($failed ? 1 : 0);
