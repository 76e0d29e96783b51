<?php
declare(strict_types=1);

namespace Aviary;

final class Bird
{
    public function __construct(private string $name, private float $mass) {}

    public function name(): string
    {
        return $this->name;
    }
}

$birds = [new Bird('bee', 2.0), new Bird('giant', 20.0)];
foreach ($birds as $bird) {
    echo htmlspecialchars($bird->name()), PHP_EOL;
}
